"""The one way to write files and folders: whole or not at all."""

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from persim_gym.paths import ASSETS, unwritable_part
from persim_gym.storage.leftovers import DISPLACED, scratch_folder
from persim_gym.storage.loading import read_folder
from persim_gym.storage.names import CARD, MEASURED, README, SIGNATURE, WEIGHTS


@contextmanager
def replacing(target: Path, sign: str = "") -> Iterator[Path]:
    """Gives a path to write to; what is there in the end takes the place of `target` in one step.

    A process that is killed leaves the old content or the new one, and hidden beside it what the next writer removes.

    Args:
        target: Final place of a file, or of a folder with `sign`. Links are followed, folders above it are made.
        sign: See `replaceable`. With one, the path that is given is a new and empty folder.

    Raises:
        ValueError: As `replaceable`.
    """
    target = replaceable(target, sign)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target) as scratch:
        new, old = scratch / f"new-{target.name}", scratch / DISPLACED
        if sign:
            new.mkdir()
        yield new
        for path in new.iterdir() if sign else [new]:
            _flush(path)
        if not sign or not target.exists():
            os.replace(new, target)
        elif not _exchange(new, target):
            try:
                os.replace(target, old)
                os.replace(new, target)
            finally:  # Where nothing took its place, the old folder goes back; else nothing shall restore it.
                if old.exists():
                    os.replace(old, new if target.exists() else target)
        _flush(target.parent)


def replaceable(target: Path, sign: str = CARD) -> Path:
    """The absolute path, links followed, of what may be written: something new, a regular file, or a folder of ours.

    Args:
        target: The file or folder; `~` is the user's home.
        sign: Name of a file that every folder of this kind holds; "" where `target` is a file.

    Raises:
        ValueError: If something else would be lost, or it cannot be written.
    """
    target = Path(os.path.realpath(target.expanduser()))
    kind, remedy = ("folder", "give another folder") if sign else ("regular file", "give another file")
    if target.is_relative_to(os.path.realpath(ASSETS)):
        raise ValueError(f"{target} is part of persim_gym itself, which is never written to; {remedy}")
    if os.path.lexists(target) and not (target.is_dir() if sign else target.is_file()):
        raise ValueError(f"{target} is no {kind}; {remedy}")
    inside = sorted(target.iterdir()) if sign and target.exists() else []
    if inside and not ((target / sign) in inside and all(path.is_symlink() or path.is_file() for path in inside)):
        names = ", ".join(path.name for path in inside[:3]) + (", …" if len(inside) > 3 else "")
        raise ValueError(f"{target} holds {names}, which would be lost; {remedy}")
    if sign and (target.parent / sign).is_file():
        raise ValueError(f"{target.parent} holds a {sign}, and nothing goes inside of it; {remedy}")
    if parent := unwritable_part(target.parent):
        raise ValueError(f"{target} cannot be written: {parent} is no folder that you may write to; {remedy}")
    return target


def write_folder(
    folder: Path,
    card: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    readme: Callable[[Mapping[str, Any]], str] | None = None,
    force: bool = True,
    measured: Mapping[str, NDArray[Any]] | None = None,
) -> None:
    """Writes a card and its weights; files of other names in a folder that is replaced, such as a figure, are kept.

    Args:
        folder: Where they go.
        card: JSON-plain values; `sha256` of the weights is added.
        tensors: Weights by name.
        readme: Maps the card as stored to a text for people, README.md beside it; None for none.
        force: Whether other weights that are there may be replaced; see `check_weights_stay`.
        measured: What was measured of these weights, by name; what an earlier folder held of it goes.

    Raises:
        ValueError: As `replaceable` and `check_weights_stay`.
    """
    folder = replaceable(folder)
    weights = safetensors.numpy.save({name: np.ascontiguousarray(values) for name, values in tensors.items()})
    stored = {**card, "sha256": hashlib.sha256(weights).hexdigest()}
    if not force:
        check_weights_stay(folder, stored["sha256"])
    with replacing(folder, CARD) as new:
        (new / WEIGHTS).write_bytes(weights)
        (new / CARD).write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        if measured:
            plain = {name: np.ascontiguousarray(values) for name, values in measured.items()}
            (new / MEASURED).write_bytes(safetensors.numpy.save(plain, {"weights": stored["sha256"]}))
        if readme is not None:
            (new / README).write_text(readme(stored), encoding="utf-8")
        for kept in folder.glob("*"):
            if kept.name not in (CARD, WEIGHTS, MEASURED, README):
                shutil.copy2(kept, new / kept.name, follow_symlinks=False)


def check_weights_stay(folder: Path, sha256: str) -> None:
    """Refuses to replace weights in a folder by others.

    Args:
        folder: What `write_folder` may have written.
        sha256: Of the weights that are to go there.

    Raises:
        ValueError: If it holds weights of another hash.
    """
    if (folder / CARD).is_file() and read_folder(folder)[0]["sha256"] != sha256:
        raise ValueError(f"{folder} holds other weights; --force replaces them, --out puts the new ones elsewhere")


def check_own_file(path: Path, force: bool = False, sign: str = SIGNATURE) -> None:
    """Refuses to replace a file that does not say that this package wrote it.

    Args:
        path: The file that is to be written, whose content holds `sign`.
        force: Whether any regular file may be replaced.
        sign: Text that is in every file of its kind.

    Raises:
        ValueError: If another one is there; or as `replaceable`.
    """
    if (place := replaceable(path, sign="")).exists() and not force and sign.encode() not in place.read_bytes():
        raise ValueError(f"{path} is there and was not written by persim; --force replaces it, or give another file")


def write_text(path: Path, text: str) -> None:
    """Writes a text file; errors as `replacing`."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def write_page(path: Path, text: str) -> None:
    """Writes a page of Markdown that may be written again without asking; errors as `replacing`."""
    write_text(path, f"{text.rstrip()}\n\n<!-- {SIGNATURE} -->\n")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes JSON-plain values; errors as `replacing`."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def _flush(path: Path) -> None:
    """Waits until a file, or a folder's list of files, is on the disk: a power cut then loses neither old nor new."""
    if os.name == "posix" and not path.is_symlink():  # Elsewhere this takes a file opened for writing, and no folder.
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step; False where the system or its file system cannot, and nothing has happened."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # This is not Linux, or an old C library.
        return False
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), swap) == 0)
