"""Ways to damage files: bytes flipped, cut off or put in, and values of JSON that become others."""

import copy
import json
from pathlib import Path

from hypothesis import strategies as st

DEEP = "deep"  # Stands for lists in lists, too deep for any parser, which json.dumps could not write either.
VALUES = [
    None, True, False, 0, -1, 1, 2, 10**9, 2**63, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf"), "", "x",
    "a\nb", "9" * 5000, [], [[]], [1, 2, 3], [None], ["x"] * 1000, {}, {"x": 1}, {"": None}, DEEP,
]  # fmt: skip


@st.composite
def broken_bytes(draw, data: bytes) -> bytes:
    """A file's bytes with one bit flipped, a piece cut off or out, or others in the place of some."""
    place = draw(st.integers(0, max(len(data) - 1, 0)))
    match draw(st.sampled_from(["flip", "cut", "out", "zeros", "others", "more"])):
        case "flip":
            changed = data[place] ^ (1 << draw(st.integers(0, 7)))
            return data[:place] + bytes([changed]) + data[place + 1 :]
        case "cut":
            return data[:place]
        case "out":
            return data[:place] + data[place + draw(st.integers(1, 64)) :]
        case "zeros":
            size = draw(st.integers(1, 64))
            return data[:place] + bytes(size) + data[place + size :]
        case "others":
            others = draw(st.binary(min_size=1, max_size=16))
            return data[:place] + others + data[place + len(others) :]
    return data[:place] + draw(st.binary(min_size=1, max_size=16)) + data[place:]


def places(tree, path=()):
    """Paths of all values in JSON."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key in tree:
            yield from places(tree[key], (*path, key))
    elif isinstance(tree, list):
        for i in range(min(len(tree), 3)):
            yield from places(tree[i], (*path, i))


@st.composite
def broken_json(draw, tree) -> str:
    """The text of JSON with one value another, gone, or under another name."""
    tree = copy.deepcopy(tree)
    *above, last = draw(st.sampled_from(list(places(tree))))
    parent = tree
    for step in above:
        parent = parent[step]
    kind = draw(st.sampled_from(["value", "value", "value", "deleted", "renamed", "added"]))
    if kind == "deleted" or (kind == "renamed" and isinstance(parent, list)):
        del parent[last]
    elif kind == "renamed":
        parent[f"{last}s"] = parent.pop(last)
    elif kind == "added" and isinstance(parent, dict):
        parent["more"] = draw(st.sampled_from(VALUES))
    else:
        parent[last] = draw(st.sampled_from(VALUES))
    return json.dumps(tree).replace(json.dumps(DEEP), "[" * 100_000 + "]" * 100_000)


def write_broken(draw, path: Path, whole: bytes) -> None:
    """Damages a file, as JSON where it is and that is drawn."""
    if path.suffix == ".json" and draw(st.booleans()):
        path.write_text(draw(broken_json(json.loads(whole))), encoding="utf-8")
    else:
        path.write_bytes(draw(broken_bytes(whole)))
