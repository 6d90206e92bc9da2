"""Files that are written whole or not at all; folders of one JSON card and one safetensors file, checked when read."""

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

CARD = "card.json"
WEIGHTS = "weights.safetensors"
README = "README.md"


def write_folder(
    folder: Path,
    card: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    readme: Callable[[Mapping[str, Any]], str] | None = None,
) -> None:
    """Writes a card and its weights; a folder of that name is replaced whole or not at all.

    Files of other names in a folder that is replaced, such as a figure, are kept.

    Args:
        folder: Where they go; `~` is the user's home.
        card: JSON-plain values; `sha256` of the weights is added.
        tensors: Weights by name.
        readme: Maps the card as stored to a text for people, README.md beside it; None for none.

    Raises:
        ValueError: As `replaceable`.
    """
    folder = replaceable(folder)
    weights = safetensors.numpy.save({name: np.ascontiguousarray(values) for name, values in tensors.items()})
    stored = {**card, "sha256": hashlib.sha256(weights).hexdigest()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        (new / WEIGHTS).write_bytes(weights)
        (new / CARD).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        if readme is not None:
            (new / README).write_text(readme(stored), encoding="utf-8")
        if folder.exists():
            for kept in folder.iterdir():
                if kept.name not in (CARD, WEIGHTS, README):
                    shutil.copy2(kept, new / kept.name)
            os.replace(folder, scratch / "old")
        os.replace(new, folder)
    finally:
        if (scratch / "old").exists() and not folder.exists():  # cut off between the two renames
            os.replace(scratch / "old", folder)
        shutil.rmtree(scratch, ignore_errors=True)


def replaceable(folder: Path) -> Path:
    """The absolute path of a folder that may be written: a new or empty one, or one of a card and files beside it.

    Raises:
        ValueError: If something else would be lost, or the folder cannot be written.
    """
    folder = Path(os.path.abspath(folder.expanduser()))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give another folder")
    inside = sorted(folder.iterdir()) if folder.exists() else []
    if inside and (folder / CARD not in inside or any(path.is_dir() for path in inside)):
        names = ", ".join(path.name for path in inside[:3]) + (", …" if len(inside) > 3 else "")
        raise ValueError(f"{folder} holds {names}, which would be lost; give another folder")
    if (folder.parent / CARD).is_file():
        raise ValueError(f"{folder.parent} holds a {CARD}, and nothing goes inside of it; give another folder")
    parent = next(path for path in folder.parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: {parent} is no folder that you may write to; give another")
    return folder


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON-plain values; a file of that name is replaced whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Reads a card and its weights.

    Raises:
        ValueError: If a file is missing, cannot be read, or the weights are not those that the card describes.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        weights = (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} cannot be read ({error}); remove it and make it again") from error
    if not isinstance(card, dict) or hashlib.sha256(weights).hexdigest() != card.get("sha256"):
        raise ValueError(
            f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one in {CARD}; remove {folder} and make it again, "
            "or reinstall persim_gym if it is a bundled one"
        )
    return card, safetensors.numpy.load(weights)


# A scratch folder of an unknown process counts as left behind after so many seconds without a change.
ABANDONED = 24 * 3600.0


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A new empty folder on the file system of `target`, hidden beside it and removed in the end.

    Those that killed processes left behind are removed first. Rename what is finished from inside it to `target`.

    Args:
        target: The final place; its parent must exist.
    """
    remove_left_behind(target)
    owner = f".{target.name}-{_host()}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=owner, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_left_behind(target: Path) -> None:
    """Removes scratch folders of `target` whose process is gone; those that are being written stay."""
    for folder in target.parent.glob(f".{target.name}-*"):
        if folder.is_dir() and _is_left_behind(folder, target.name):
            shutil.rmtree(folder, ignore_errors=True)


def _is_left_behind(folder: Path, name: str) -> bool:
    owner = re.fullmatch(rf"\.{re.escape(name)}-([0-9a-f]{{8}})-(\d+)-.*", folder.name)
    if owner is not None and owner[1] == _host() and os.name == "posix":  # elsewhere a signal of 0 is not a question
        return not _is_running(int(owner[2]))
    try:
        changed = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:  # it is being removed or written
        return False
    return time.time() - changed > ABANDONED


def _host() -> str:
    """This computer, in eight characters that may stand in a file name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
