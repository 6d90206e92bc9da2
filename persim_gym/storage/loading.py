"""The one way to read files and to check what is in them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from persim_gym.storage.names import CARD, MEASURED, WEIGHTS

MAX_JSON_BYTES = 16 * 2**20
_LONGEST_REASON = 500  # Characters that a message takes from the error behind it.
DEFAULT_REMEDY = "remove it and make it again, or reinstall persim_gym if it is bundled"


@contextmanager
def reading(what: object, remedy: str = DEFAULT_REMEDY) -> Iterator[None]:
    """Makes one ValueError, of one line, of whatever goes wrong while something on disk is read and taken apart.

    Args:
        what: The file or folder, for the message.
        remedy: What to do about it, likewise.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join((str(error) if isinstance(error, OSError | ValueError) else repr(error)).split())
        reason = reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}…"
        raise ValueError(f"{what} cannot be read ({reason}); {remedy}") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; call it inside `reading`, which says what to do about any error."""
    if _regular(path).stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_JSON_BYTES:,} bytes")
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path.name} is no JSON object")
    return values


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Reads a card and its weights.

    Raises:
        ValueError: If a file is missing, cannot be read, or the weights are not those that the card describes.
    """
    with reading(folder):
        card, weights = read_json(folder / CARD), _regular(folder / WEIGHTS).read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.get("sha256"):
            raise ValueError(f"{folder / WEIGHTS} is damaged: its SHA-256 is not the one in {CARD}")
        return card, safetensors.numpy.load(weights)


def read_measured(folder: Path, sha256: str) -> dict[str, NDArray[Any]]:
    """What was measured of the weights in a folder; empty where nothing was, or of other weights.

    Args:
        folder: The folder.
        sha256: Of the weights.

    Raises:
        ValueError: If the file cannot be read, or holds values that are not finite.
    """
    path = folder / MEASURED
    if not path.exists():
        return {}
    with reading(path):
        with safetensors.safe_open(_regular(path), framework="numpy") as file:
            if (file.metadata() or {}).get("weights") != sha256:
                return {}
            names = list(file.keys())
            return {name: _finite(name, file.get_tensor(name)) for name in names}


def _finite(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """Numbers that are all finite."""
    return checked_array(name, values, values.shape, "iuf", MEASURED)


def read_array(path: Path) -> NDArray[Any]:
    """An array of a .npy file, of plain types; call it inside `reading`."""
    with _regular(path).open("rb") as file:  # NumPy itself leaves some damaged files open.
        try:
            array: NDArray[Any] = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:  # NumPy's own words tell to load pickles, which is bad advice.
            raise ValueError(f"{path.name} holds no plain array") from error
        return array


def checked_array(
    name: str, array: NDArray[Any] | None, shape: Sequence[int | None], kinds: str, where: object
) -> NDArray[Any]:
    """The array, if it is what it should be; call this inside `reading`.

    Args:
        name: Its name, for messages.
        array: The array; None where it is missing.
        shape: Its sizes; None for any.
        kinds: NumPy's letters of the types that it may have: "f" for real numbers, "i" for whole ones.
        where: File that it is from, for messages.

    Raises:
        ValueError: If it is missing, of another type or shape, or not finite.
    """
    if array is None:
        raise ValueError(f"{where} lacks {name}")
    fits = array.ndim == len(shape) and all(size in (None, own) for size, own in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in kinds:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} in {where} is {array.dtype} {list(array.shape)}, not of kind {kinds} [{wanted}]")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} in {where} holds values that are not finite")
    return array


def _regular(path: Path) -> Path:
    """The path, unless it is a device or a pipe, which might have no end."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    return path
