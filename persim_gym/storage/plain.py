"""Dataclasses from JSON: each value is checked against the type that its field has."""

import json
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from persim_gym.suggest import suggestion

T = TypeVar("T")
_LARGEST_INTEGER = 2**63 - 1
_SHOWN = 60  # Characters of a wrong value that a message shows.


def from_plain(kind: type[T], stored: Any) -> T:
    """Makes a dataclass of what JSON kept of one; call this inside `reading`, which says of which file.

    Lists become tuples where the field is one. Fields of other dataclasses may be nested.

    Args:
        kind: The dataclass. Its fields may be text, numbers, truth values, lists, tuples and mappings of them, and Any.
        stored: What JSON gave.

    Raises:
        ValueError: If it is no object, lacks a field, has another, or a value is of another type, not finite or too
            large for 64 bits. Says which.
    """
    if not isinstance(stored, Mapping):
        raise ValueError(f"{shown(stored)} is no object of {kind.__name__}")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    needed = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    if wrong := sorted((set(stored) - set(known)) | (needed - set(stored))):
        raise ValueError(f"{', '.join(map(shown, wrong))} of {kind.__name__}: missing, or not of this version")
    hints = get_type_hints(kind)
    return kind(**{name: _value(value, hints[name], name) for name, value in stored.items()})


def changed_fields(record: T, settings: Sequence[str]) -> T:
    """A copy of a dataclass with some fields changed, as `--set` of the command line has them.

    Args:
        record: The dataclass, whose fields are as `from_plain` takes them.
        settings: Each "field=value", with the value as JSON has it, or text as it is.

    Raises:
        ValueError: If a field does not exist, cannot be that, or as the dataclass.
    """
    known: dict[str, Any] = asdict(record)  # type: ignore[call-overload]
    hints, changes = get_type_hints(type(record)), dict[str, Any]()
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"{setting!r}: there is no setting {name!r}; {suggestion(name, known)}")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        try:
            changes[name] = _value(value, hints[name], name)
        except ValueError:
            raise ValueError(
                f"{setting!r}: {name} cannot be {text!r}; write {name}=VALUE with a value such as the present "
                f"{json.dumps(known[name])}"
            ) from None
    return replace(record, **changes)  # type: ignore[type-var]


def _value(value: Any, hint: Any, name: str) -> Any:
    """The value as its field keeps it."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _value(value, next(part for part in inner if part is not type(None)), name)
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return from_plain(hint, value)
    if _is_of(value, origin or hint):
        if origin is tuple and (inner[-1] is Ellipsis or len(inner) == len(value)):
            each = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
            return tuple(_value(v, h, f"{name}[{i}]") for i, (v, h) in enumerate(zip(value, each, strict=True)))
        if origin is list:
            return [_value(v, inner[0], f"{name}[{i}]") for i, v in enumerate(value)]
        if origin in (dict, Mapping):
            return {key: _value(v, inner[1], f"{name}[{shown(key)}]") for key, v in value.items()}
        if origin is None:
            return value
    wanted = str(hint).replace("typing.", "").replace("collections.abc.", "") if origin else hint.__name__
    raise ValueError(f"{name} is {shown(value)}, not of type {wanted}")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a kind, a truth value being no number."""
    if kind is int:
        return type(value) is int and abs(value) <= _LARGEST_INTEGER
    if kind is float:
        return _is_of(value, int) or (type(value) is float and math.isfinite(value))
    if kind is tuple:
        return isinstance(value, list | tuple)
    return isinstance(value, dict if kind is Mapping else kind)


def shown(value: Any) -> str:
    """A value in a message, short and on one line."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
