"""Where a user's own files live: trained simulators, logging policies, unfinished training, compiled code."""

import atexit
import hashlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import platformdirs

ASSETS = Path(__file__).parent / "assets"
"""What ships with the package."""


def persim_home() -> Path:
    """Folder of the user's files: `$PERSIM_HOME`, by default the user's cache folder. Not created here."""
    given = os.environ.get("PERSIM_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("persim_gym"))


def simulators_root() -> Path:
    """Folder of the user's own simulators."""
    return persim_home() / "simulators"


def simulator_path(name: str) -> Path:
    """Where a simulator of a name goes, among the user's own.

    Raises:
        ValueError: If the name is none.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or any(part.startswith(".") for part in parts):
        raise ValueError(f"{name!r} is no name of a simulator, such as fleet/pumps-v0; a folder goes into --out")
    return simulators_root() / name


def unfinished(name: str, *options: Any) -> Path:
    """Where work under way keeps its state, less a file's ending; other options have a path of their own.

    Args:
        name: What is being made.
        options: All that the state depends on, as JSON has it.
    """
    mark = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:12]
    return persim_home() / "training" / f"{name.replace('/', '-')}-{mark}"


def unwritable_part(folder: Path) -> Path | None:
    """The part of a path where it cannot be made or written into: the lowest one that exists; None where it can."""
    lowest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return None if lowest.is_dir() and os.access(lowest, os.W_OK | os.X_OK) else lowest


def find_room_for_compiled_code() -> None:
    """Gives Numba a temporary folder where it can write to none of its own, which would be an error when it compiles.

    Worker processes inherit the folder.
    """
    compiled, given = ASSETS.parent / "simulator" / "kernels" / "__pycache__", os.environ.get("NUMBA_CACHE_DIR")
    places = [compiled, platformdirs.user_cache_path("numba", False), *([Path(given)] if given else [])]
    if all(unwritable_part(place.absolute()) for place in places):
        folder = tempfile.mkdtemp(prefix="persim_gym-")
        os.environ["NUMBA_CACHE_DIR"] = folder
        if numba := sys.modules.get("numba"):  # It read the variable when it was imported.
            numba.config.CACHE_DIR = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        print(
            "persim_gym: no folder for compiled code can be written to, so that it is compiled anew each time; set "
            "NUMBA_CACHE_DIR to a folder of yours",
            file=sys.stderr,
        )
