"""What somebody may have meant by a name that does not exist."""

from collections.abc import Iterable
from difflib import get_close_matches

MAX_SUGGESTIONS = 4
MAX_LISTED = 8
MIN_LIKENESS = 0.7  # Of two words, from 0 to 1, as difflib has it.


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of an error message: names like a word, and all names where these are few.

    Args:
        word: What was typed, such as half of a name.
        known: Names that exist.

    Returns:
        "did you mean a or b?", "known: a, b, …", both, or "there are none".
    """
    names = list(known)
    if not names:
        return "there are none"
    whole = [name for name in names if word and word.lower() in name.lower()]
    close = (whole or get_close_matches(word, names, MAX_SUGGESTIONS, MIN_LIKENESS))[:MAX_SUGGESTIONS]
    meant = f"did you mean {' or '.join(close)}?" if close else ""
    if meant and (len(names) > MAX_LISTED or len(close) == len(names)):
        return meant
    more = ", …" if len(names) > MAX_LISTED else ""
    return f"{meant} known: {', '.join(names[:MAX_LISTED])}{more}".strip()
