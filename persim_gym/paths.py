"""Where a user's own files live: trained simulators, logging policies, unfinished training."""

import hashlib
import json
import os
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
