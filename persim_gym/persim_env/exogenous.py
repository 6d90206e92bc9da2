"""Series from outside, such as meals, weather or prices: what the exogenous columns of a simulated episode show."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.observation_layout import LoggedSeries
from persim_gym.simulator.dynamics.batch import BatchDynamics

LOGGED, HELD, OF_AGENT = "logged", "held", "agent:"
_WAYS = '"logged", "held", "agent:NAME", "module:name" of a function, or an array [T, X]'

Exogenous = str | NDArray[Any] | Callable[[np.random.Generator], Any]
"""What exogenous columns show: "logged" for the series of the agent's own log, "held" for their first values all the
time, "agent:NAME" for another agent's log, an array [T, X] from the first observation on, or a function, also as
"module:name", that maps a random generator to such an array."""

Draw = Callable[[np.random.Generator, int, int | None], NDArray[np.float32] | None]
"""Maps (generator, row's agent, episode that it begins as, if it is a logged one) to a series [T, X]; None to hold."""


class SeriesRows:
    """Rows of a simulator whose exogenous columns follow given series; as `persim_env.stepper.RowDynamics`.

    Attributes:
        inner: The rows, which hold exogenous columns.
        members: As `RowDynamics`.
        columns: As `RowDynamics`.
    """

    def __init__(self, inner: BatchDynamics, outside: slice, rows: int) -> None:
        """Starts without series.

        Args:
            inner: The rows.
            outside: The exogenous columns.
            rows: Number of rows B.
        """
        self.inner, self.members, self.columns = inner, inner.members, inner.columns
        self._outside = outside
        self._series: list[NDArray[np.float32] | None] = [None] * rows
        self._at = np.zeros(rows, dtype=np.int64)

    def begin(self, rows: NDArray[np.int64]) -> None:
        """Some rows start an episode."""
        self.inner.begin(rows)
        self._at[rows] = 0

    def rebind(self, row: int, factor: Any) -> None:
        """As `BatchDynamics.rebind`."""
        self.inner.rebind(row, factor)

    def give(self, row: int, series: NDArray[np.float32] | None, start: NDArray[np.float32]) -> None:
        """Gives a row its series, and writes the first values of it into the first observation [D], in place."""
        self._series[row] = series
        if series is not None:
            start[self._outside] = series[0]

    def ahead(self, row: int) -> NDArray[np.float32] | None:
        """What a row's exogenous columns will show, from the next step on, [h, X]; None where they are held."""
        series = self._series[row]
        return None if series is None else series[int(self._at[row]) + 1 :]

    def ended(self) -> NDArray[np.bool_]:
        """Rows whose series has no further values, bool [B]."""
        return np.array([s is not None and at + 1 >= len(s) for s, at in zip(self._series, self._at, strict=True)])

    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], member: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """As `RowDynamics.step`, with the next values of the series in their columns."""
        following, spread = self.inner.step(obs, action, member)
        self._at += 1
        for row, series in enumerate(self._series):
            if series is not None:
                following[row, self._outside] = series[min(int(self._at[row]), len(series) - 1)]
        return following, spread


def draw_of(
    given: Exogenous,
    series: LoggedSeries | None,
    start_agents: NDArray[np.int64],
    number: Callable[[str], int],
    size: int,
) -> Draw:
    """How the series of an episode is found.

    Args:
        given: As `Exogenous`.
        series: Logged series, one a logged first observation.
        start_agents: Agent of each of these, sorted.
        number: Number of an agent by its name.
        size: Exogenous columns X.

    Raises:
        ValueError: If there is no such series.
    """
    if isinstance(given, str) and given.startswith(OF_AGENT):
        other = number(given.removeprefix(OF_AGENT))
        return lambda rng, agent, episode: _logged(series, start_agents, rng, other, None)
    if isinstance(given, str) and given == LOGGED:
        return lambda rng, agent, episode: _logged(series, start_agents, rng, agent, episode)
    if isinstance(given, str) and given == HELD:
        return lambda rng, agent, episode: None
    if isinstance(given, str):
        given = _function_at(given)
    if callable(given):
        make = given
        return lambda rng, agent, episode: _checked(make(rng), size)
    fixed = _checked(given, size)
    return lambda rng, agent, episode: fixed


def _logged(
    series: LoggedSeries | None,
    start_agents: NDArray[np.int64],
    rng: np.random.Generator,
    agent: int,
    episode: int | None,
) -> NDArray[np.float32]:
    """A logged series of an agent: of the episode, or of a drawn one."""
    if series is None:
        raise ValueError('the simulator holds no logged series of exogenous columns; use exogenous="held", or an array')
    if episode is None:
        own = np.flatnonzero(start_agents == agent)
        if not len(own):
            raise ValueError(f'agent {agent} has no logged series of exogenous columns; use exogenous="held"')
        episode = int(rng.choice(own))
    return series.of(episode)


def _checked(series: Any, size: int) -> NDArray[np.float32]:
    array = np.asarray(series, dtype=np.float32)
    if array.ndim == 1 and size == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != size or not len(array) or not np.isfinite(array).all():
        raise ValueError(f"a series of exogenous columns is {array.shape}; it must be finite, [T, {size}]")
    return array


def _function_at(reference: str) -> Callable[[np.random.Generator], Any]:
    """The function that `module:name` refers to.

    Raises:
        ValueError: If it is none.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise ValueError(f"exogenous={reference!r} is none of {_WAYS}")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"exogenous={reference!r} cannot be imported ({error}); it may be {_WAYS}") from error
    if not callable(found):
        raise ValueError(f"exogenous={reference!r} is no function of a random generator")
    function: Callable[[np.random.Generator], Any] = found
    return function
