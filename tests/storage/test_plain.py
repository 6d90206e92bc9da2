"""Dataclasses from JSON: what has the types of the fields, and what else is refused by field."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from persim_gym.storage import from_plain


@dataclass(frozen=True)
class Inner:
    """A dataclass in another."""

    size: int


@dataclass(frozen=True)
class Everything:
    """A field of each kind."""

    name: str
    count: int
    share: float
    on: bool
    widths: tuple[int, ...]
    pair: tuple[float, float | None]
    inner: Inner
    table: dict[str, list[float | None]] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)
    maybe: int | None = None


WHOLE = Everything("x", 3, 0.5, True, (1, 2), (1.0, None), Inner(4), {"a": [1.0, None]}, {"b": [[]]}, 7)
STORED = json.loads(json.dumps(asdict(WHOLE)))


def test_what_was_stored_is_what_is_read():
    assert from_plain(Everything, STORED) == WHOLE
    least = {name: STORED[name] for name in ("name", "count", "share", "on", "widths", "pair", "inner")}
    assert from_plain(Everything, {**least, "share": 1}) == Everything("x", 3, 1, True, (1, 2), (1.0, None), Inner(4))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 1}, "name is 1, not of type str"),
        ({"name": None}, "name is None, not of type str"),
        ({"count": 1.0}, "count is 1.0, not of type int"),
        ({"count": True}, "count is True, not of type int"),
        ({"count": 2**63}, "count is 9223372036854775808, not of type int"),
        ({"share": True}, "share is True, not of type float"),
        ({"share": "1"}, "share is '1', not of type float"),
        ({"share": float("inf")}, "share is inf, not of type float"),
        ({"share": float("nan")}, "share is nan, not of type float"),
        ({"share": 10**400}, r"share is 10{59}…, not of type float"),
        ({"on": 1}, "on is 1, not of type bool"),
        ({"widths": 3}, r"widths is 3, not of type tuple\[int, ...\]"),
        ({"widths": [1, "2"]}, r"widths\[1\] is '2', not of type int"),
        ({"widths": {"0": 1}}, "widths is {'0': 1}, not of type tuple"),
        ({"pair": [1.0]}, r"pair is \[1.0\], not of type tuple\[float, float | None\]"),
        ({"pair": [None, 1.0]}, r"pair\[0\] is None, not of type float"),
        ({"inner": 3}, "3 is no object of Inner"),
        ({"inner": {"size": "x"}}, "size is 'x', not of type int"),
        ({"inner": {}}, "'size' of Inner: missing, or not of this version"),
        ({"table": {"a": 3}}, r"table\['a'\] is 3, not of type list\[float | None\]"),
        ({"table": {"a": ["x"]}}, r"table\['a'\]\[0\] is 'x', not of type float"),
        ({"table": []}, r"table is \[\], not of type dict\[str, list"),
        ({"mapping": []}, r"mapping is \[\], not of type Mapping\[str, Any\]"),
        ({"maybe": "x"}, "maybe is 'x', not of type int"),
        ({"more": 1, "a\nb": 2}, r"'a\\nb', 'more' of Everything: missing, or not of this version"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_of_another_type_is_refused_by_field(change, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        from_plain(Everything, {**STORED, **change})


@pytest.mark.parametrize("name", ["name", "pair", "inner"])
def test_what_is_missing_is_named(name):
    with pytest.raises(ValueError, match=f"^'{name}' of Everything: missing"):
        from_plain(Everything, {key: value for key, value in STORED.items() if key != name})


@pytest.mark.parametrize("stored", [None, [], "x", 3])
def test_what_is_no_object_is_refused(stored):
    with pytest.raises(ValueError, match="is no object of Everything$"):
        from_plain(Everything, stored)
