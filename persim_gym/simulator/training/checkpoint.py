"""Files that a training keeps its state in while it runs: tensors, and what they belong to."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from persim_gym.storage import reading, replacing


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors; a file of that name is replaced whole or not at all."""
    with replacing(path) as new:
        save_file(dict(tensors), new, metadata=dict(metadata))


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write_checkpoint` made.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    with reading(f"checkpoint {path}", "delete it to start anew"), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def rounds_file(training: Path) -> Path:
    """Where rounds in closed form are kept of a training whose gradient steps are kept at a path."""
    return training.with_suffix(".rounds.safetensors")


def remove_checkpoints(training: Path | None) -> None:
    """Removes what a training has kept at a path, its rounds in closed form too."""
    if training is not None:
        for path in (training, rounds_file(training)):
            path.unlink(missing_ok=True)
