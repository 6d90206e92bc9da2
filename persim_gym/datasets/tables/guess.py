"""Guesses which column of a table is what, and says why."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.tables.columns import MAX_CATEGORIES, categories_of, numbers_of, times_of
from persim_gym.datasets.tables.read import arrow

WORDS = {  # What parts of a column's name may say of its role.
    "time": "time timestamp date datetime when step cycle t day hour minute period visit",
    "agent": "agent machine patient unit shop store customer device subject user client vehicle asset engine robot "
    "tank person case plant id",
    "reward": "reward profit revenue return score yield utility sales earnings payoff",
    "terminated": "terminated terminal done failed failure fail dead death died end ended dropout churned",
    "action": "action valve dose treatment control setpoint command price promotion discount drug medication decision "
    "intervention actuator",
    "exogenous": "load weather ambient outside outdoor season holiday demand forecast wind solar",
}
ROLES = ("agent", "time", "obs", "action", "reward", "terminated", "exogenous", "static")


@dataclass(frozen=True)
class Guess:
    """One column.

    Attributes:
        column: Its name.
        kind: "dates", "numbers", "truth values", "text" or "nothing".
        different: Number of different values.
        missing: Share of missing cells.
        role: One of `ROLES`; "" for none.
        why: Reason for the role.
    """

    column: str
    kind: str
    different: int
    missing: float
    role: str = ""
    why: str = "nothing tells what it is for"


def guess_roles(table: Any, given: Mapping[str, tuple[str, ...]]) -> list[Guess]:
    """Guesses the role of each column.

    Args:
        table: A `pyarrow.Table`.
        given: Columns of roles that need no guess.
    """
    guesses = {name: _look_at(name, table.column(name)) for name in dict.fromkeys(table.column_names)}
    for role, columns in given.items():
        for column in columns:
            guesses[column] = replace(guesses[column], role=role, why="you say so")
    for role in ("time", "agent", "reward", "terminated", "action"):
        if not given.get(role):
            found = sorted(_candidates(role, guesses, table.num_rows), reverse=True)
            for _, name, why in found if role == "action" else found[:1]:
                guesses[name] = replace(guesses[name], role=role, why=why)
    agent, time = (next((g.column for g in guesses.values() if g.role == role), "") for role in ("agent", "time"))
    codes = categories_of(table.column(agent))[0] if agent else None
    when = times_of(time, table.column(time))[0] if time and guesses[time].kind != "text" else None
    for guess in [g for g in guesses.values() if not g.role]:
        role, why = _role_of_rest(guess, table.column(guess.column), codes, when, set(given))
        guesses[guess.column] = replace(guess, role=role, why=why)
    return list(guesses.values())


def _look_at(name: str, column: Any) -> Guess:
    """What is in a column."""
    types = arrow().types
    import pyarrow.compute as compute

    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    what = "text"
    if types.is_null(kind):
        what = "nothing"
    elif types.is_temporal(kind):
        what = "dates"
    elif types.is_boolean(kind):
        what = "truth values"
    elif types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        what = "numbers"
    flat = column.cast(kind) if types.is_dictionary(column.type) else column
    missing = flat.null_count + (int(compute.sum(compute.is_nan(flat)).as_py() or 0) if types.is_floating(kind) else 0)
    return Guess(
        name, what, int(compute.count_distinct(flat, mode="only_valid").as_py()), missing / max(len(column), 1)
    )


def words_of(name: str) -> set[str]:
    """Parts of a column's name in lower case: of "machineId" and "machine_id", "machine" and "id"."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)}


def _named(role: str, name: str) -> bool:
    return bool(words_of(name) & set(WORDS[role].split()))


def _candidates(role: str, guesses: Mapping[str, Guess], rows: int) -> list[tuple[float, str, str]]:
    """Columns that may have a role: how likely, the column, and why."""
    found = []
    for g in guesses.values():
        if g.role or g.different == 0:
            continue
        said = "its name says so" * _named(role, g.column)
        if role == "time" and g.kind == "dates":
            found.append((2.0 + bool(said), g.column, "it holds dates"))
        elif role == "time" and said and g.different > 1 and (g.kind == "numbers" or "id" not in words_of(g.column)):
            found.append((1.0, g.column, said))
        elif role == "agent" and g.kind in ("text", "numbers") and 1 < g.different <= rows / 2:
            per = f"{g.different:,} different values, each in {rows / g.different:,.0f} rows on average"
            if said or (g.kind == "text" and not _named("action", g.column)):
                likely = 2.0 * bool(said) + (g.kind == "text") + g.different / rows
                found.append((likely, g.column, f"{per}; {said}" if said else per))
        elif role == "agent" and said and g.different == 1:
            found.append((1.6, g.column, f"{said}, though it names one agent only"))
        elif role == "agent" and said and g.different > rows / 2:
            found.append((0.5, g.column, f"{said}, though {g.different:,} of {rows:,} rows have one of their own"))
        elif role == "reward" and said and g.kind == "numbers":
            found.append((1.0, g.column, said))
        elif role == "terminated" and said and g.different <= 2 and g.kind != "dates":
            found.append((1.0, g.column, f"{said}, and it has {g.different} values"))
        elif role == "action" and said and g.kind != "dates" and g.different > 1:
            found.append((1.0, g.column, said))
    return found


def _role_of_rest(
    guess: Guess, column: Any, agent: NDArray[np.int32] | None, time: NDArray[Any] | None, given: set[str]
) -> tuple[str, str]:
    """Role of a column that is neither agent, time, reward, end nor action, and why."""
    if guess.different < 2:
        return "", "it has one value in all rows" if guess.different else "it is empty"
    if guess.kind == "dates":
        return "", "one column of times is enough"
    if guess.kind == "text" and guess.different > MAX_CATEGORIES:
        return "", f"{guess.different:,} different texts are no categories"
    text = guess.kind == "text"
    values = categories_of(column)[0].astype(np.float64) if text else numbers_of(guess.column, column)
    if agent is not None and "static" not in given and _same_within(agent, values):
        return "static", "it is the same in all rows of an agent"
    if "exogenous" not in given and _named("exogenous", guess.column):
        return "exogenous", "its name says so"
    if "exogenous" not in given and time is not None and agent is not None and _shared(time, agent, values):
        return "exogenous", "at one time it is the same in all agents"
    if "obs" in given:
        return "", "you name the observations"
    return "obs", f"text with {guess.different} categories" if text else "a number that changes"


def _same_within(group: NDArray[Any], values: NDArray[np.float64]) -> bool:
    """Whether values are the same wherever a group is the same, of which some are larger than one."""
    known = ~np.isnan(values)
    order = np.lexsort((values[known], group[known]))
    group, values = group[known][order], values[known][order]
    same = np.diff(group) == 0
    return bool(same.any() and (np.diff(values)[same] == 0).all())


def _shared(time: NDArray[Any], agent: NDArray[np.int32], values: NDArray[np.float64]) -> bool:
    """Whether rows of different agents at one time have one value, where that happens often."""
    often = len(np.unique(time)) <= len(time) / 2 and len(np.unique(agent)) > 1
    return bool(often and _same_within(time, values))
