"""What is said of a table: which column is what, how its text is written, and lengths of time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from persim_gym.suggest import suggestion

NANOSECONDS = {  # In a unit of time, as --gap and --every write it.
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*")


class TableOptions(TypedDict, total=False):
    """Further options of an import, each with a default.

    Attributes:
        exogenous: Columns that come from outside, as weather or prices: the last columns of observations, which a
            simulator sees but does not predict.
        static: Columns that stay the same in an agent; kept with the dataset, agent by agent.
        terminated: Column that is true, or not 0, in the last row of an episode that ended for a reason of the task.
        gap: Longest step of one run, as "5min", or a number where time is one; by default three times the usual step.
        every: Length of the steps that rows are put together to, likewise; by default rows stay as they are.
        units: Units by column, for tables, plots and cards.
        categorical: Columns of numbers that are categories.
        continuous: Columns of actions that are numbers though they have few different values.
        integer: Observed columns that are whole numbers, as seats or doses; predictions are rounded there.
        delimiter: What separates the columns of a CSV file; by default a comma, in .tsv files a tab.
        decimal: What separates decimals in a CSV file.
        encoding: Of a CSV file.
        missing: Texts of a CSV file that stand for a missing value, beside the empty one, NA, NaN, null and None.
        time_format: How times are written that are no ISO 8601, as "%d/%m/%Y %H:%M".
        force: Whether a dataset that is there is replaced.
        progress: Whether to show a progress bar.
    """

    exogenous: Sequence[str]
    static: Sequence[str]
    terminated: str
    gap: str | float | None
    every: str | float | None
    units: Mapping[str, str]
    categorical: Sequence[str]
    continuous: Sequence[str]
    integer: Sequence[str]
    delimiter: str
    decimal: str
    encoding: str
    missing: Sequence[str]
    time_format: str
    force: bool
    progress: bool


@dataclass(frozen=True)
class Roles:
    """Which column of a table is what; "" and () for none. See `TableOptions` for those that are not said here.

    Attributes:
        agent: Names the agent of a row.
        time: When the row was logged; without, rows of an agent follow one another as they stand.
        obs: Observations.
        action: What was done after the observation of the row.
        reward: What that brought.
    """

    agent: str
    time: str
    obs: tuple[str, ...]
    action: tuple[str, ...]
    reward: str = ""
    terminated: str = ""
    exogenous: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    continuous: tuple[str, ...] = ()
    integer: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks what can be told without the table.

        Raises:
            ValueError: If agent, observations or actions are missing, or a column is given twice.
        """
        for name, given in {"agent": self.agent, "obs": self.obs, "action": self.action}.items():
            if not given:
                raise ValueError(f"no --{name}; name the column, `persim doctor TABLE` makes a guess")
        if both := [column for column in self.exogenous if column in (*self.obs, *self.action)]:
            raise ValueError(f"column {both[0]} is given as --exogenous and as --obs or --action; choose one")
        for name in ("obs", "action", "exogenous", "static"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                twice = next(column for i, column in enumerate(given) if column in given[:i])
                raise ValueError(f"--{name} has {twice} twice; name each column once")
        single = {"agent": self.agent, "time": self.time, "reward": self.reward, "terminated": self.terminated}
        for name, column in single.items():
            taken = [other for other, c in single.items() if other != name and c == column]
            if column and (taken or (name in ("agent", "time") and column in (*self.obs, *self.action))):
                raise ValueError(f"column {column} is given as --{name} and as something else; choose one")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are used, each once."""
        named = (self.agent, self.time, *self.obs, *self.action, self.reward, self.terminated)
        return tuple(dict.fromkeys(c for c in (*named, *self.exogenous, *self.static) if c))

    def check_others(self, units: Mapping[str, str]) -> None:
        """Checks that what is said of columns is said of ones that are used.

        Raises:
            ValueError: If it is not.
        """
        named = {"categorical": self.categorical, "continuous": self.continuous, "integer": self.integer, "unit": units}
        for option, columns in named.items():
            for column in columns:
                if column not in self.columns:
                    raise ValueError(
                        f"--{option} {column} is no column that is used; {suggestion(column, self.columns)}"
                    )
        for column in self.integer:
            if column not in self.obs:
                raise ValueError(f"--integer {column} is not observed; {suggestion(column, self.obs)}")


@dataclass(frozen=True)
class Dialect:
    """How the text of a CSV file is written; fields as in `TableOptions`."""

    delimiter: str = ""
    decimal: str = "."
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    time_format: str = ""


def duration(option: str, given: str | float | None, dates: bool) -> float | None:
    """A length of time in the unit of the times of a table.

    Args:
        option: Its name, for messages.
        given: "5min", or a number; None for none.
        dates: Whether times are dates, which count in nanoseconds; else they are numbers.

    Returns:
        Nanoseconds, or the number.

    Raises:
        ValueError: If it is none, not positive, or has a unit where times have none, or the other way round.
    """
    if given is None:
        return None
    match, units = _DURATION.fullmatch(str(given)), ", ".join(NANOSECONDS)
    number, unit = (float(match[1]), match[2]) if match else (0.0, "")
    if not number or (unit and unit not in NANOSECONDS):
        raise ValueError(
            f"--{option} {given} is no length of time; write a number and {', '.join(NANOSECONDS)}, as 5min"
        )
    if dates and not unit:
        raise ValueError(f"--{option} {given} has no unit; times are dates, so add one of {units}")
    if unit and not dates:
        raise ValueError(f"--{option} {given} has a unit, but times are numbers; write a number in their unit")
    return number * NANOSECONDS[unit] if unit else number


def length_text(length: float, dates: bool) -> str:
    """A length of time for people."""
    if not dates:
        return f"{length:g}"
    unit = max(
        (u for u in NANOSECONDS if u != "w" and NANOSECONDS[u] <= length), key=NANOSECONDS.__getitem__, default="ns"
    )
    return f"{length / NANOSECONDS[unit]:.4g} {unit}"
