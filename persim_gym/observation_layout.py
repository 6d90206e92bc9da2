"""How an observation is made up: what is learned, what comes from outside, and what is remembered of the past.

Logged rows often hold too little to say what comes next. An observation is therefore widened: [learned | exogenous |
past]. The learned columns change as the simulator predicts. Exogenous columns, such as meals, weather or prices, are
known series that nobody here controls. A past column is either the value that another column had some steps before, or
a compartment: a running average that forgets at a stated rate. Past columns follow from the row before exactly, so
that nothing of them is learned.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from persim_gym.logged_arrays import UNKNOWN_ACTION
from persim_gym.transitions import Transitions


class PastColumn(NamedTuple):
    """One remembered column: its next value is `keep` of itself and 1 - `keep` of its source.

    Attributes:
        source: Column of the whole observation, or behind these a component of the action (one a choice).
        keep: Share of itself that it keeps in a step: 0 for the value of the step before, more for a compartment.
    """

    source: int
    keep: float = 0.0


@dataclass(frozen=True)
class ObservationLayout:
    """What the columns of an observation are, in this order: learned, exogenous, past.

    Attributes:
        learned: Columns that a simulator learns to predict.
        exogenous: Columns of known series from outside.
        past: Remembered columns.
        usual: Mean of each past column in the data, which stands for what is not known where an episode begins.
    """

    learned: int
    exogenous: int = 0
    past: tuple[PastColumn, ...] = ()
    usual: tuple[float, ...] = ()

    @property
    def present(self) -> int:
        """Columns P of what is observed at one time: learned and exogenous ones."""
        return self.learned + self.exogenous

    @property
    def width(self) -> int:
        """Columns D of the whole observation."""
        return self.present + len(self.past)

    @property
    def outside(self) -> slice:
        """The exogenous columns."""
        return slice(self.learned, self.present)

    @property
    def context(self) -> tuple[tuple[int, float], ...]:
        """What `ModelConfig.context` takes: source and share of each column that is not learned."""
        held = [(column, 0.0) for column in range(self.learned, self.present)]
        return (*held, *((past.source, past.keep) for past in self.past))

    @property
    def lag(self) -> int:
        """Steps that an episode must have gone before all lagged columns are known."""
        ages = [0] * self.present
        for past in self.past:
            ages.append(0 if past.keep else 1 + (ages[past.source] if past.source < len(ages) else 0))
        return max(ages, default=0)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self) | {"past": [list(past) for past in self.past], "usual": list(self.usual)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "ObservationLayout":
        """The layout of a card.

        Raises:
            KeyError: If a part is missing; ValueError or TypeError if one is of another kind.
        """
        past = tuple(PastColumn(int(source), float(keep)) for source, keep in stored["past"])
        usual = tuple(float(value) for value in stored["usual"])
        layout = cls(int(stored["learned"]), int(stored["exogenous"]), past, usual)
        if layout.learned < 1 or layout.exogenous < 0 or len(usual) not in (0, len(past)):
            raise ValueError(f"{stored} is no layout of observations")
        if any(p.source < 0 or not 0 <= p.keep < 1 for p in past):
            raise ValueError("a past column has no source, or keeps more than there is")
        return layout

    def next_past(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[Any]:
        """The past columns after a step, [..., columns].

        Args:
            obs: Whole observations before the step, [..., D].
            action: Their actions as components, [..., A]; of discrete ones see `action_components`.
        """
        sources = np.array([past.source for past in self.past], dtype=np.int64)
        keep = np.array([past.keep for past in self.past], dtype=obs.dtype)
        own, row = obs[..., self.present :], np.concatenate([obs, action.astype(obs.dtype)], axis=-1)
        return np.where(keep > 0, keep * own + (1 - keep) * row[..., sources], row[..., sources])

    def begin(self, present: NDArray[Any]) -> NDArray[np.float32]:
        """Whole observations where nothing is known of what was before, [B, D].

        Past values of an observation are its present one, those of actions and compartments their usual ones.

        Args:
            present: What is observed now, [B, P].
        """
        wide = np.empty((len(present), self.width), dtype=np.float32)
        wide[:, : self.present] = present
        for column, past in enumerate(self.past, self.present):
            lagged = not past.keep and past.source < self.width
            usual = self.usual[column - self.present] if self.usual else 0.0
            wide[:, column] = wide[:, past.source] if lagged else usual
        return wide

    def after(self, obs: NDArray[Any], action: NDArray[Any], present: NDArray[Any]) -> NDArray[np.float32]:
        """Whole observations one step later, [B, D].

        Args:
            obs: Whole observations before the step, [B, D].
            action: Their actions as components, [B, A].
            present: What is observed after it, [B, P].
        """
        return np.concatenate([present, self.next_past(obs, action)], axis=-1).astype(np.float32)

    def widened(self, data: Transitions, n_actions: int) -> Transitions:
        """Logged transitions with whole observations.

        A trajectory loses its first `lag` transitions, whose past is not known, and so does each piece behind a gap.
        Compartments begin at the mean of what flows into them there.

        Args:
            data: Transitions whose observations are the present alone, [K, P].
            n_actions: Number of discrete actions; 0 for continuous ones.

        Raises:
            ValueError: If the observations are of another width, or no trajectory is longer than the history.
        """
        self._check_present(data.obs_dim, data.source)
        if not self.past:
            return data
        action = action_components(data.action, n_actions)
        wide = self._wide(data.obs, action, np.diff(data.pieces, prepend=-1) != 0)
        kept = np.asarray(~np.isnan(wide).any(axis=1))
        if not kept.any():
            raise ValueError(
                f"{data.source}: no trajectory is longer than the {self.lag} steps of the history; give a shorter one"
            )
        following = np.concatenate([data.next_obs, self.next_past(wide, action)], axis=1)
        return replace(data.select(kept), obs=wide[kept], next_obs=following[kept])

    def widened_episode(self, obs: NDArray[Any], action: NDArray[Any], n_actions: int) -> NDArray[np.float32]:
        """Whole observations of an episode in which values may be missing, [T + 1, D]; NaN where one is not known.

        A compartment takes what is missing for what it holds.

        Args:
            obs: What is observed at one time, [T + 1, P].
            action: [T], `UNKNOWN_ACTION` where it is missing, or [T, A].
            n_actions: Number of discrete actions; 0 for continuous ones.

        Raises:
            ValueError: If the observations are of another width.
        """
        self._check_present(obs.shape[1], "an episode")
        components = action_components(action, n_actions)
        if n_actions:
            components[np.asarray(action) == UNKNOWN_ACTION] = np.nan
        last = np.full((1, components.shape[1]), np.nan, dtype=np.float32)  # Nothing is done in the last row.
        first = np.arange(len(obs)) == 0
        return self._wide(np.asarray(obs, dtype=np.float32), np.concatenate([components, last]), first)

    def _check_present(self, found: int, source: str) -> None:
        if found != self.present:
            raise ValueError(f"{source} has {found} observations, not the {self.present} of this layout")

    def _wide(
        self, present: NDArray[np.float32], action: NDArray[np.float32], first: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Whole observations of rows that follow one another, [K, D]; NaN where the past is not known.

        Args:
            present: What is observed, [K, P].
            action: Components of the action, [K, A].
            first: Rows that follow no other, bool [K].
        """
        unknown = np.full((len(present), len(self.past)), np.nan, dtype=np.float32)
        wide = np.concatenate([present, unknown], axis=1)
        for column, past in enumerate(self.past, self.present):
            own = past.source < self.width
            source = wide[:, past.source] if own else action[:, past.source - self.width]
            if past.keep:
                wide[:, column] = _compartment(source.astype(np.float64), first, past.keep)
            else:
                wide[1:, column] = np.where(first[1:], np.float32(np.nan), source[:-1])
        return wide

    def with_usual(self, data: Transitions) -> "ObservationLayout":
        """The layout with the means of the past columns of widened data."""
        means = data.obs[:, self.present :].mean(axis=0, dtype=np.float64)
        return replace(self, usual=tuple(float(f"{mean:.6g}") for mean in means))


def action_components(action: NDArray[Any], n_actions: int) -> NDArray[np.float32]:
    """Actions as rows of numbers: continuous ones as they are, [..., A]; of discrete ones a 1 among zeros, [..., n].

    Args:
        action: [...] or [..., A].
        n_actions: Number of discrete actions; 0 for continuous ones.
    """
    if not n_actions:
        return np.asarray(action, dtype=np.float32)
    chosen: NDArray[np.bool_] = np.asarray(action)[..., None] == np.arange(n_actions)
    return chosen.astype(np.float32)


@njit(cache=True)
def _compartment(source, first, keep):  # type: ignore
    """Running averages of a column, [K], which begin anew at the mean of each run of rows; NaN changes nothing."""
    found = np.empty_like(source)
    for row in range(len(source)):
        if first[row]:
            stop = row + 1
            while stop < len(source) and not first[stop]:
                stop += 1
            found[row] = np.nanmean(source[row:stop])
        elif np.isnan(source[row - 1]):
            found[row] = found[row - 1]
        else:
            found[row] = keep * found[row - 1] + (1.0 - keep) * source[row - 1]
    return found


class LoggedSeries(NamedTuple):
    """Exogenous columns as they were logged, one series an episode.

    Attributes:
        values: All series one after the other, float32 [S, X].
        end: Where each ends, int64 [E].
    """

    values: NDArray[np.float32]
    end: NDArray[np.int64]

    def of(self, episode: int) -> NDArray[np.float32]:
        """The series of an episode, from its first observation on, [T + 1, X]."""
        begin = 0 if episode == 0 else int(self.end[episode - 1])
        series: NDArray[np.float32] = self.values[begin : int(self.end[episode])]
        return series

    def reordered(self, order: NDArray[np.int64]) -> "LoggedSeries":
        """The series of some episodes in another order, [E]."""
        pieces = [self.of(int(episode)) for episode in order]
        return LoggedSeries(np.concatenate(pieces), np.cumsum([len(piece) for piece in pieces]))

    def joined(self, others: "LoggedSeries") -> "LoggedSeries":
        """These series, and others behind them."""
        return LoggedSeries(
            np.concatenate([self.values, others.values]), np.append(self.end, others.end + len(self.values))
        )

    @classmethod
    def from_transitions(cls, data: Transitions, columns: slice) -> "LoggedSeries":
        """Of each trajectory, in order; where a step is missing, the values before it are held.

        Args:
            data: Transitions with whole observations.
            columns: The exogenous columns.
        """
        begin = np.flatnonzero(np.diff(data.trajectory, prepend=data.trajectory[0] - 1))
        stop = np.append(begin[1:], len(data))
        step = np.arange(len(data)) if data.step is None else data.step
        pieces = []
        for b, e in zip(begin, stop, strict=True):
            values = np.full((step[e - 1] - step[b] + 2, columns.stop - columns.start), np.nan, dtype=np.float32)
            values[step[b:e] - step[b] + 1] = data.next_obs[b:e, columns]
            values[step[b:e] - step[b]] = data.obs[b:e, columns]
            known = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
            pieces.append(np.take_along_axis(values, np.maximum.accumulate(known, axis=0), axis=0))
        return cls(np.concatenate(pieces), np.cumsum([len(piece) for piece in pieces]))
