"""A folder is written beside its place and renamed: it is there whole or not at all, even after a kill."""

import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED = 24 * 3600.0  # s without a change, after which a scratch folder of an unknown process counts as left behind


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
