"""Columns of a table as arrays of numbers: values, categories, agents and times."""

import re
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.tables.read import arrow
from persim_gym.datasets.tables.roles import Roles

MAX_CATEGORIES = 100
"""Different texts of an observed column; more are no categories."""
MAX_CHOICES = 10
"""Whole numbers that an action column may take and still be a choice, not an amount."""
_COMMA_NUMBER = re.compile(r"[+-]?\d{1,3}(?:\.?\d{3})*,\d+|[+-]?\d+,\d+")
_SHOWN = 40  # Characters of a wrong value in a message.


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table that are used, all of K rows.

    Attributes:
        agent: Index of the row's agent among `agents`, -1 where it is missing, int32 [K].
        agents: Names of agents.
        time: Nanoseconds since 1970 (int64) or numbers (float64), [K]; None where no column tells time.
        known_time: Where a time is given, bool [K].
        values: Other columns by name, float64 [K]; the index of a category where `categories` has the name; NaN where
            there is no value.
        categories: Names of the categories of a column.
    """

    agent: NDArray[np.int32]
    agents: list[str]
    time: NDArray[Any] | None
    known_time: NDArray[np.bool_]
    values: dict[str, NDArray[np.float64]]
    categories: dict[str, list[str]]

    @property
    def dates(self) -> bool:
        """Whether times are dates."""
        return self.time is not None and self.time.dtype.kind == "i"


def table_columns(table: Any, roles: Roles, time_format: str = "") -> TableColumns:
    """Turns the columns of a table into numbers.

    Args:
        table: A `pyarrow.Table`.
        roles: Which column is what.
        time_format: How times are written that are no ISO 8601; "" for these.

    Raises:
        ValueError: If a column is neither numbers nor categories, or times cannot be read; names the remedy.
    """
    agent, agents = categories_of(table.column(roles.agent))
    time, known = None, np.ones(table.num_rows, dtype=np.bool_)
    if roles.time:
        time, known = times_of(roles.time, table.column(roles.time), time_format)
    values: dict[str, NDArray[np.float64]] = {}
    categories: dict[str, list[str]] = {}
    for name in roles.columns:
        if name in (roles.agent, roles.time):
            continue
        column = table.column(name)
        if name in roles.categorical or _is_text(name, column):
            codes, names = categories_of(column)
            if name in (*roles.obs, *roles.action, roles.reward):
                check_categories(name, names, codes)
            values[name] = np.where(codes < 0, np.nan, codes)
            if name == roles.terminated:
                values[name] = _truth_values(name, names)[codes]
            elif name == roles.reward and names:
                raise ValueError(f"column {name} holds text such as {names[0][:_SHOWN]!r}; a reward is a number")
            else:
                categories[name] = names
        else:
            values[name] = numbers_of(name, column)
    amounts = [name for name in roles.action if name not in categories]
    if all(name not in roles.continuous and _is_choice(table.column(name), values[name]) for name in amounts):
        for name in amounts:
            values[name], categories[name] = _as_choice(values[name])
    return TableColumns(agent, agents, time, known, values, categories)


def numbers_of(name: str, column: Any) -> NDArray[np.float64]:
    """A column of numbers, float64 [K], NaN where there is none.

    Raises:
        ValueError: If it holds dates or anything else.
    """
    pa = arrow()
    import pyarrow.compute

    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        raise ValueError(f"column {name} holds times ({kind}); leave it out, or turn it into numbers first")
    if pa.types.is_duration(kind):
        column = column.cast(pa.duration("ns")).cast(pa.int64())
    try:
        numbers = pyarrow.compute.cast(column, pa.float64(), safe=False).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"column {name} holds {kind}, which are no numbers; leave it out") from error
    return np.where(np.isfinite(numbers), numbers, np.nan)


def categories_of(column: Any) -> tuple[NDArray[np.int32], list[str]]:
    """A column of names: the index of each row's among the sorted names, -1 for none, int32 [K]; and the names.

    Numbers are sorted as numbers. A whole number is called as such, though it was read as a decimal one.
    """
    pa = arrow()
    import pyarrow.compute

    if not pa.types.is_dictionary(column.type):
        if pa.types.is_floating(column.type):
            column = pyarrow.compute.if_else(pyarrow.compute.is_finite(column), column, None)
        column = pyarrow.compute.dictionary_encode(column)
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # Without rows there is no chunk.
        column = column.chunk(0)
    stored = column.dictionary.to_pylist()
    names = [_name(value) for value in stored]
    codes = pyarrow.compute.fill_null(column.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    used = np.bincount(codes[codes >= 0], minlength=len(names)) > 0
    order = sorted({name for name, found in zip(names, used, strict=True) if found and name}, key=_order)
    index = {name: i for i, name in enumerate(order)}
    recode = np.array([*(index.get(name, -1) for name in names), -1], dtype=np.int32)
    return recode[codes], order


def times_of(name: str, column: Any, time_format: str = "") -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A column of times: nanoseconds since 1970 where they are dates, else float64, [K]; and where there is one.

    Raises:
        ValueError: If they are texts that are no dates of one kind.
    """
    pa = arrow()
    import pyarrow.compute

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if time_format and pa.types.is_integer(kind):
        column = column.cast(pa.string())
    if _is_text(name, column):
        column = _parsed(pa, name, column, time_format)
        kind = column.type
    if pa.types.is_time(kind):  # A time of day begins anew each day: it is a number of seconds.
        column = pyarrow.compute.divide(column.cast(pa.time64("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
        kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind):
        fine = pa.timestamp("ns", kind.tz if pa.types.is_timestamp(kind) else None)
        column = pyarrow.compute.cast(column, fine, safe=False).cast(pa.int64())
    else:
        numbers = numbers_of(name, column)
        return numbers, ~np.isnan(numbers)
    known = pyarrow.compute.is_valid(column).to_numpy()
    return pyarrow.compute.fill_null(column, 0).to_numpy().astype(np.int64), known


def _parsed(pa: Any, name: str, column: Any, time_format: str) -> Any:
    """Texts as dates, of ISO 8601 or of the format."""
    for zone in (None, "UTC"):
        try:
            if time_format:
                return arrow().compute.strptime(column, format=time_format, unit="us")
            return column.cast(pa.timestamp("ns", zone))
        except pa.ArrowInvalid:
            continue
    forms: dict[str, tuple[str, int]] = {}
    for row, text in enumerate(column.to_pylist(), 2):
        if text is not None:
            forms.setdefault(re.sub(r"\d", "9", text), (text, row))
        if len(forms) > 1:
            (first, row_1), (second, row_2) = list(forms.values())[:2]
            raise ValueError(
                f"column {name} holds times of two kinds, {first[:_SHOWN]!r} (line {row_1}) and {second[:_SHOWN]!r} "
                f"(line {row_2}); write all alike, best as 2024-12-31 23:59"
            )
    sample = next(iter(forms.values()), ("", 0))[0]
    wrong = f", not as {time_format!r}" if time_format else ""
    raise ValueError(
        f"column {name} holds times as {sample[:_SHOWN]!r}{wrong}; say how they are written, as --time-format "
        "'%d/%m/%Y %H:%M' where the day is first"
    )


def check_categories(name: str, names: list[str], codes: NDArray[np.int32]) -> None:
    """Refuses a column of texts that holds numbers, or that is no category.

    Raises:
        ValueError: If it is one.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    numeric = np.array([_is_number(text) for text in names], dtype=np.bool_)
    commas = np.array([_COMMA_NUMBER.fullmatch(text) is not None for text in names], dtype=np.bool_)
    if counts[commas].sum() > 0.5 * counts.sum():
        example = names[int(np.flatnonzero(commas)[0])]
        raise ValueError(f"column {name} has commas as decimals ({example!r}); add --decimal ,")
    if not numeric.all() and counts[numeric].sum() > 0.5 * counts.sum():
        wrong = int(np.flatnonzero(~numeric)[np.argmax(counts[~numeric])])
        often = f"{counts[wrong]:,} {'row' if counts[wrong] == 1 else 'rows'}"
        where = f"{names[wrong][:_SHOWN]!r} in {often}, first in row {int(np.argmax(codes == wrong)) + 1:,}"
        remedy = f"repair it, or call it missing: --missing {shlex.quote(names[wrong])}"
        raise ValueError(f"column {name} mixes numbers and text: {where}; {remedy}")
    if len(names) > MAX_CATEGORIES:
        remedy = "store its numbers as numbers" if numeric.all() else "leave it out, or group its texts"
        raise ValueError(
            f"column {name} has {len(names):,} different texts, such as {names[0][:_SHOWN]!r}; categories are at most "
            f"{MAX_CATEGORIES}: {remedy}"
        )


def _truth_values(name: str, names: list[str]) -> NDArray[np.float64]:
    """What texts of a column say, 1 or 0, and NaN at the end.

    Raises:
        ValueError: If one says neither.
    """
    said = {**dict.fromkeys(("1", "true", "t", "yes", "y"), 1.0), **dict.fromkeys(("0", "false", "f", "no", "n"), 0.0)}
    for text in names:
        if text.lower() not in said:
            raise ValueError(f"column {name} holds {text[:_SHOWN]!r}, which says neither yes nor no; make it 1 and 0")
    return np.array([*(said[text.lower()] for text in names), np.nan])


def _is_text(name: str, column: Any) -> bool:
    """Whether a column holds texts, whose different values are categories, or is one of categories already.

    Raises:
        ValueError: If its bytes are no text.
    """
    types, kind = arrow().types, column.type
    if types.is_binary(kind) or types.is_large_binary(kind):
        raise ValueError(f"column {name} holds bytes that are no UTF-8 text; give --encoding, as latin-1 or cp1252")
    kinds = (types.is_string, types.is_large_string, types.is_string_view, types.is_dictionary)
    return any(is_kind(kind) for is_kind in kinds)


def _is_choice(column: Any, values: NDArray[np.float64]) -> bool:
    """Whether an action column of numbers is a choice: truth values, or a few whole numbers."""
    if arrow().types.is_boolean(column.type):
        return True
    known = values[~np.isnan(values)]
    return bool(len(known) and (known == np.round(known)).all() and len(np.unique(known)) <= MAX_CHOICES)


def _as_choice(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    known = np.unique(values[~np.isnan(values)])
    return np.where(np.isnan(values), np.nan, np.searchsorted(known, values)), [f"{v:.0f}" for v in known]


def _name(value: Any) -> str:
    """What a value is called, on one line and printable."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(value).split())) if value is not None else ""


def _order(name: str) -> tuple[Any, ...]:
    """Sorts names as people do: 9 before 10, M-9 before M-10."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
