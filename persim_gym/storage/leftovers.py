"""Scratch folders beside what is written, and what killed processes leave of them."""

import errno
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from persim_gym.paths import persim_home

MAX_SCRATCH_AGE = 24 * 3600.0  # Seconds without a change. Older scratch folders of unknown processes are left behind.
DISPLACED = "old"  # Name, in a scratch folder, of the folder that a new one takes the place of.

_SCRATCH_NAME = re.compile(r"\.(?P<target>.+?)(-(?P<host>[0-9a-f]{8})-(?P<pid>\d+))?-[a-z0-9_]{8}")
_PARTIAL_NAME = re.compile(r"(?P<stem>.+?)(\.(?P<pid>\d+))?\.partial")


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A new empty folder on the file system of `target`, hidden beside it and removed in the end.

    Those that killed processes left behind are removed first. Rename what is finished from inside it to `target`.

    Args:
        target: The final place; its parent must exist.

    Raises:
        ValueError: If the disk is full: libraries that write say so in many ways.
    """
    remove_left_behind(target)
    owner = f".{target.name}-{_host()}-{os.getpid()}-"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=owner, ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        except Exception as error:
            if not _tells_of_full_disk(error):
                raise
            raise ValueError(
                f"{target} cannot be written: there is no room left on its disk; make room, and do the same again"
            ) from error


def _tells_of_full_disk(error: Exception) -> bool:
    """Whether an error, or what it came from, is that of a full disk or of a used quota, whatever its type."""
    numbers = errno.ENOSPC, errno.EDQUOT
    said = isinstance(error, OSError) and error.errno in numbers or any(os.strerror(n) in str(error) for n in numbers)
    before = error.__cause__ or error.__context__
    return said or (isinstance(before, Exception) and _tells_of_full_disk(before))


def restored(target: Path) -> Path:
    """The path itself, once a folder that a killed writer had moved aside is back in its place."""
    place = Path(os.path.realpath(target))
    if not place.exists():
        for folder, match in _scratch_folders(place.parent):
            if match["target"] == place.name and not _is_written(match):
                with suppress(OSError):
                    os.replace(folder / DISPLACED, place)
    return target


def restore_all(root: Path) -> None:
    """As `restored`, for all folders below a root."""
    for old in root.rglob(f".*/{DISPLACED}"):
        if match := _SCRATCH_NAME.fullmatch(old.parent.name):
            restored(old.parent.with_name(match["target"]))


def remove_left_behind(target: Path) -> None:
    """Removes what processes that are gone left of a target, and what they left beside it more than a day ago.

    What is being written stays, and so does what an unknown process may be writing.
    """
    restored(target)
    for folder, match in _scratch_folders(target.parent):
        written = _is_written(match)
        if match["target"] == target.name:
            removed = written is False or (written is None and _is_old(folder))
        else:
            removed = written is False and _is_old(folder)
            if removed:
                restored(folder.with_name(match["target"]))
        if removed:
            shutil.rmtree(folder, ignore_errors=True)
    _remove_partials(target)


def _remove_partials(target: Path) -> None:
    """Removes what killed writers of earlier versions left: NAME.partial, or of checkpoints NUMBER.partial.

    Under $PERSIM_HOME, where all files are ours, those of other targets go too once they are old.
    """
    ours = target.parent.is_relative_to(os.path.realpath(persim_home()))
    for path in target.parent.glob("*.partial"):
        match = _PARTIAL_NAME.fullmatch(path.name)
        own = path.name == f"{target.name}.partial"
        if match and target.suffix == ".safetensors":
            own = own or (match["stem"] == target.stem and not _is_alive(int(match["pid"] or 0)))
        if own or (ours and _is_old(path)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _scratch_folders(parent: Path) -> list[tuple[Path, re.Match[str]]]:
    named = [(folder, _SCRATCH_NAME.fullmatch(folder.name)) for folder in parent.glob(".*-*")]
    return [(folder, match) for folder, match in named if match]


def _is_old(path: Path) -> bool:
    """Whether a file, or all of a folder, has not changed for `MAX_SCRATCH_AGE`."""
    try:
        changed = max(part.stat().st_mtime for part in (path, *path.rglob("*")))
    except OSError:  # It is being removed or written.
        return False
    return changed <= time.time() - MAX_SCRATCH_AGE


def _is_written(scratch: re.Match[str]) -> bool | None:
    """Whether the process that a scratch folder is named after still runs; None if that cannot be known here."""
    if scratch["host"] != _host() or os.name != "posix":
        return None
    return _is_alive(int(scratch["pid"]))


def _is_alive(pid: int) -> bool:
    """Whether a process of this computer runs, or may run; 0 is none."""
    if os.name != "posix":  # Elsewhere a signal of 0 is not a question.
        return pid > 0
    try:
        if pid:
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # It is another user's.
        return True
    return pid > 0


def _host() -> str:
    """This computer, in eight characters that may stand in a file name."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]
