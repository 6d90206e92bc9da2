"""Pictures become a film."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from numpy.typing import NDArray

FORMATS = (".gif", ".mp4")


def check_film(path: Path) -> None:
    """Checks, before any work is done, that a film can be written, and makes its folder.

    Raises:
        ValueError: If the file is neither .gif nor .mp4, or what writes .mp4 is not installed.
        OSError: If its folder cannot be made.
    """
    if path.suffix not in FORMATS or path.is_dir():
        raise ValueError(f"{path} is neither {' nor '.join(FORMATS)}")
    if path.suffix == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise ValueError("films of type .mp4 need imageio-ffmpeg: pip install 'persim_gym[video]', or write a .gif")
    path.parent.mkdir(parents=True, exist_ok=True)


def write_film(path: Path, frames: Sequence[NDArray[Any]], fps: float) -> None:
    """Writes pictures, [height, width, 3] each, as a film that `check_film` has passed."""
    if path.suffix == ".gif":
        imageio.imwrite(path, np.stack(frames), duration=1000 / fps, loop=0)
    else:
        even = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]  # as the codec wants it
        imageio.imwrite(path, even, fps=fps, macro_block_size=1)
