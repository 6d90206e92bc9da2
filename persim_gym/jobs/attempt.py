"""One attempt at one job, in whatever process it runs: its result, or what went wrong, and never an exception."""

import pickle
import textwrap
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

MAX_ERROR_LENGTH = 400  # Characters of an error's message.


class Outcome(NamedTuple):
    """What an attempt came to.

    Attributes:
        result: What the function returned.
        error: What went wrong, in one line; empty where it ended well.
    """

    result: Any = None
    error: str = ""


def attempt(call: bytes, keywords: Mapping[str, Any]) -> bytes:
    """Calls a function.

    Errors are told as text and results as bytes, because not every exception and array is the same after its way
    through a pipe or Ray.

    Args:
        call: The function, and the keywords that all jobs share, pickled.
        keywords: Further ones, of this job.

    Returns:
        The `Outcome`, pickled.
    """
    try:
        function, constants = pickle.loads(call)
        return pickle.dumps(Outcome(function(**constants, **keywords)))
    except BaseException as error:  # Nothing that a job does shall end the process, which has others to do.
        return pickle.dumps(Outcome(error=in_one_line(error)))


def in_one_line(error: BaseException) -> str:
    """An exception's type, message and place: the last line that is not a library's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    text = textwrap.shorten(str(error), MAX_ERROR_LENGTH, placeholder=" …")
    return f"{type(error).__name__}: {text}{place}"
