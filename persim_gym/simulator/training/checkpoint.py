"""Files that a training keeps its state in while it runs: tensors, and what they belong to."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from persim_gym.storage import reading, replacing

START_ANEW = "delete it to start anew"

_DIGEST = "sha256"  # Of tensors and metadata.


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors; a file of that name is replaced whole or not at all."""
    with replacing(path) as new:
        save_file(dict(tensors), new, metadata={**metadata, _DIGEST: _digest(tensors, metadata)})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file that `write_checkpoint` made.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it cannot be read, or is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    with reading(f"checkpoint {path}", START_ANEW), safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
        if metadata.pop(_DIGEST, None) != _digest(tensors, metadata):
            raise ValueError("it is damaged, or of an earlier version: its SHA-256 is not the one that it holds")
        return tensors, metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 over all that a checkpoint holds."""
    digest = hashlib.sha256(repr(sorted(metadata.items())).encode())
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(np.ascontiguousarray(values.detach().cpu().reshape(-1).view(torch.uint8).numpy()).data)
    return digest.hexdigest()


def rounds_file(training: Path) -> Path:
    """Where rounds in closed form are kept of a training whose gradient steps are kept at a path."""
    return training.with_suffix(".rounds.safetensors")


def remove_checkpoints(training: Path | None) -> None:
    """Removes what a training has kept at a path, its rounds in closed form too."""
    if training is not None:
        for path in (training, rounds_file(training)):
            path.unlink(missing_ok=True)
