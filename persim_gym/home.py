"""Where a user's own files live: trained simulators, logging policies, unfinished training."""

import os
from pathlib import Path

import platformdirs

ASSETS = Path(__file__).parent / "assets"
"""What ships with the package."""


def persim_home() -> Path:
    """Folder of the user's files: `$PERSIM_HOME`, by default the user's cache folder. Not created here."""
    given = os.environ.get("PERSIM_HOME")
    return Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("persim_gym"))
