"""`--history` and `--exogenous` of a training: what an observation holds beside what is learned."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gymnasium import spaces
from minari import MinariDataset

from persim_gym.actions import layout_of
from persim_gym.datasets.load import load_for_training
from persim_gym.datasets.tables.roles import duration
from persim_gym.envs.hetero import domain_of
from persim_gym.observation_layout import ObservationLayout, PastColumn
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.suggest import suggestion
from persim_gym.transitions import LoggedData, Transitions

History = int | str | Mapping[str, int | str | Sequence[int | str]]
"""Steps of every column, "glucose=8,insulin=decay:55min,120min", or the same as a dictionary."""
DECAY = "decay:"
"""Begins the time constants of compartments in a history."""


def spec_with_history(
    spec: EnvironmentSpec,
    history: History = "",
    exogenous: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    step: float | None = None,
    dates: bool = False,
) -> EnvironmentSpec:
    """Spaces, names and layout of observations that hold their past.

    Args:
        spec: As the data have it.
        history: What is remembered; empty for nothing.
        exogenous: Observed columns that come from outside, the last ones; empty for those that the data name.
        names: What the observations are called, where `spec.labels` does not say.
        step: Length of a step, in nanoseconds or the unit of the times; None where it is not known.
        dates: Whether it is nanoseconds.

    Raises:
        ValueError: If a column is unknown, exogenous columns are not the last ones, or the history is none.
    """
    if spec.layout.past:
        raise ValueError("these observations hold their past already; leave the history out")
    called = list(spec.labels.observations or names or (f"observation {d}" for d in range(spec.layout.width)))
    layout = _with_exogenous(spec.layout, exogenous, called)
    past, added = list[PastColumn](), list[str]()
    for name, sources, wanted in _remembered(history, spec, called):
        for source, label in sources:
            before = source
            for part in wanted:
                if isinstance(part, str):
                    steps = _steps(name, part, step, dates)
                    past.append(PastColumn(source, math.exp(-1.0 / steps)))
                    added.append(f"{label} over {part}")
                    continue
                for k in range(1, part + 1):
                    past.append(PastColumn(before))
                    before = layout.present + len(past) - 1
                    added.append(f"{label} {k} {'step' if k == 1 else 'steps'} before")
                before = source
    if not past and layout == spec.layout:
        return spec
    width = layout.present + len(past)
    moved = [p if p.source >= 0 else p._replace(source=width - 1 - p.source) for p in past]
    layout = replace(layout, past=tuple(moved))
    low, high = spec.observation_space.low.tolist(), spec.observation_space.high.tolist()
    action_low, action_high = _action_bounds(spec)
    for p in moved:
        inside = p.source < width
        low.append(low[p.source] if inside else action_low[p.source - width])
        high.append(high[p.source] if inside else action_high[p.source - width])
    labels = replace(spec.labels, observations=(*called, *added))
    return replace(spec, observation_space=flat_box(low, high), labels=labels, own_layout=layout)


def step_of(dataset: MinariDataset) -> tuple[float | None, bool]:
    """Length of a step of a dataset from a table, and whether it is in nanoseconds; None where it is not known."""
    table = dataset.storage.metadata.get("table", {})
    return table.get("step"), table.get("times") == "dates"


def _with_exogenous(layout: ObservationLayout, given: Sequence[str], called: list[str]) -> ObservationLayout:
    """The layout with the exogenous columns that are named."""
    if not given:
        return layout
    for name in given:
        if name not in called:
            raise ValueError(f"there is no observed column {name!r}; {suggestion(name, called)}")
    last = called[len(called) - len(given) :]
    if set(given) != set(last):
        raise ValueError(
            f"exogenous columns must be the last of the observations, which are {', '.join(last)}; write the dataset "
            "with them at the end, as persim import does"
        )
    return replace(layout, learned=layout.width - len(given), exogenous=len(given))


def _remembered(
    history: History, spec: EnvironmentSpec, called: list[str]
) -> list[tuple[str, list[tuple[int, str]], list[int | str]]]:
    """Each column with its sources, their labels, and what is remembered: numbers of steps, lengths of time."""
    actions = _actions(spec)
    known = dict.fromkeys([*(name.partition("=")[0] for name in called), *actions])
    wanted = _parsed(history, list(known))
    found = []
    for name, parts in wanted.items():
        columns = [(d, label) for d, label in enumerate(called) if name in (label, label.partition("=")[0])]
        columns += actions.get(name, [])
        if not columns:
            raise ValueError(f"there is no column {name!r} to remember; {suggestion(name, list(known))}")
        found.append((name, columns, parts))
    return found


def _actions(spec: EnvironmentSpec) -> dict[str, list[tuple[int, str]]]:
    """Components of the action by the name of their column, as -1, -2, … until the width of observations is known."""
    labels = spec.labels
    if spec.n_actions:
        name = " and ".join(labels.actions) or "action"
        choices = labels.choices or tuple(map(str, range(spec.n_actions)))
        return {name: [(-1 - a, f"{name}={choice}") for a, choice in enumerate(choices)]}
    size = spec.action_dim
    names = labels.actions or (("action",) if size == 1 else tuple(f"action {a}" for a in range(size)))
    layout, found = layout_of(spec.action_space), dict[str, list[tuple[int, str]]]()
    for a, name in enumerate(names):
        column = name if layout is None or layout.amounts[a] else name.partition("=")[0]
        found.setdefault(column, []).append((-1 - a, name))
    return found


def _parsed(history: History, every: list[str]) -> dict[str, list[int | str]]:
    """What is remembered of each column."""
    if isinstance(history, str):
        text = history.strip()
        if not text:
            return {}
        if text.isdecimal():
            history = int(text)
        else:
            history = _columns_of(text)
    if isinstance(history, int):
        if history < 1:
            raise ValueError(f"history {history} is no number of steps; give 1 or more")
        return dict.fromkeys(every, [history])
    wanted = dict[str, list[int | str]]()
    for name, parts in history.items():
        given = [parts] if isinstance(parts, int | str) else list(parts)
        for part in given:
            wanted.setdefault(name, []).extend(_pieces(name, part))
    return wanted


def _columns_of(text: str) -> dict[str, list[int | str]]:
    """The columns of "glucose=8,insulin=decay:55min,120min"."""
    found, name, decays = dict[str, list[int | str]](), "", False
    for piece in text.split(","):
        before, equals, after = piece.rpartition("=")
        if equals:
            name, piece = before.strip(), after
            decays = piece.strip().startswith(DECAY)
        if not name:
            raise ValueError(f"history {text!r} is neither a number of steps nor such as glucose=8,insulin=decay:55min")
        part = piece.strip().removeprefix(DECAY)
        found.setdefault(name, []).append(f"{DECAY}{part}" if decays else part)
    return found


def _pieces(name: str, part: int | str) -> list[int | str]:
    """A number of steps, or lengths of time."""
    if isinstance(part, str) and part.startswith(DECAY):
        return [piece.strip() for piece in part.removeprefix(DECAY).split(",")]
    if isinstance(part, str) and part.strip().isdecimal():
        part = int(part)
    if isinstance(part, bool) or not isinstance(part, int) or part < 1:
        raise ValueError(f"history of {name} is {part!r}; give a number of steps, or {DECAY}55min,120min")
    return [part]


def _steps(name: str, length: str, step: float | None, dates: bool) -> float:
    """A time constant in steps."""
    if step is None or re.fullmatch(r"\d+(\.\d+)? ?steps?", length):
        number = re.sub(r" ?steps?$", "", length)
        try:
            steps = float(number)
        except ValueError:
            raise ValueError(
                f"history of {name}: the length of a step is not known here, so give {length!r} in steps, as decay:4"
            ) from None
    else:
        wanted = duration("history", length, dates)
        assert wanted is not None
        steps = wanted / step
    if not steps > 0.1:
        raise ValueError(f"history of {name}: {length} is shorter than a tenth of a step; give a longer one")
    return steps


def _action_bounds(spec: EnvironmentSpec) -> tuple[list[float], list[float]]:
    """Lowest and highest value of each component of the action."""
    if isinstance(spec.action_space, spaces.Box):
        return spec.action_space.low.tolist(), spec.action_space.high.tolist()
    size = spec.n_actions or spec.action_dim
    return [0.0] * size, [1.0] * size


def load_data(data: MinariDataset | LoggedData, spec: EnvironmentSpec, memory: float | None) -> LoggedData:
    """The data, with the past in their observations where the layout says so."""
    if not isinstance(data, LoggedData):
        return load_for_training(data, None if memory is None else memory * 1e9, spec)
    if isinstance(data, Transitions) and data.obs_dim == spec.layout.present:
        return spec.layout.widened(data, spec.n_actions)
    return data


def spec_with_past(
    spec: EnvironmentSpec,
    data: MinariDataset | LoggedData,
    domain: str,
    history: History = "",
    exogenous: str | Sequence[str] = (),
) -> EnvironmentSpec:
    """The spec of observations that hold their past, where that is asked for.

    Args:
        spec: As the data have it.
        data: The data, whose steps time constants are counted in.
        domain: Name of the domain; empty for none.
        history: As `spec_with_history`.
        exogenous: Likewise, or one column.
    """
    if not history and not exogenous:
        return spec
    step, dates = step_of(data) if isinstance(data, MinariDataset) else (None, False)
    names = domain_of(domain).observation_names if domain else ()
    given = [exogenous] if isinstance(exogenous, str) else exogenous
    return spec_with_history(spec, history, given, names=names, step=step, dates=dates)
