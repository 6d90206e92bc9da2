"""Files that a training keeps its state in while it runs: tensors, and what they belong to."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors; a file of that name is replaced whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # another process may train the same
    save_file(dict(tensors), partial, metadata=dict(metadata))
    os.replace(partial, path)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write_checkpoint` made.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read.
        safetensors.SafetensorError: If it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def rounds_file(training: Path) -> Path:
    """Where rounds in closed form are kept of a training whose gradient steps are kept at a path."""
    return training.with_suffix(".rounds.safetensors")


def remove_checkpoints(training: Path | None) -> None:
    """Removes what a training has kept at a path, its rounds in closed form too."""
    if training is not None:
        for path in (training, rounds_file(training)):
            path.unlink(missing_ok=True)
