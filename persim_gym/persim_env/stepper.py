"""The simulator bound to the agents of B rows: what the single and the batched environment are made of."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.datasets.of_simulator import logged_data
from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import Domain, Renderer
from persim_gym.models import LearnedModel, load_learned
from persim_gym.persim_env.exogenous import HELD, LOGGED, Draw, Exogenous, SeriesRows, draw_of
from persim_gym.simulator.dynamics.batch import MEAN_MEMBER, BatchDynamics
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.simulator.simulator import Simulator
from persim_gym.task import Task

NO_HALT = float(np.finfo(np.float64).max)
"""Disagreement that only a prediction that is not believed exceeds."""


class RowDynamics(Protocol):
    """An ensemble bound to the agents of B rows, as `persim_gym.simulator.dynamics.batch.BatchDynamics`.

    Attributes:
        members: Ensemble size M.
        columns: Numbers of a prediction: the next observation, and what is learned beside it.
    """

    members: int
    columns: int

    def begin(self, rows: NDArray[np.int64]) -> None:
        """Some rows start an episode."""

    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], member: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Maps [B, D], [B, ...] and [B] to next observations [B, D] and disagreement [B]."""


Disturb: TypeAlias = Callable[[NDArray[np.float32], NDArray[Any], NDArray[np.float32]], NDArray[np.float32]]
"""Maps observations [B, D], actions and expected next observations to outcomes, [B, D]."""


class Outcome(NamedTuple):
    """One step of B rows.

    Attributes:
        obs: Next observations, [B, D]; the old one where a prediction is not believed.
        reward: The task's reward less the penalty, [B]; 0 where a prediction is not believed.
        terminated: Whether the task ends, bool [B].
        halted: Whether disagreement or a prediction that is not believed ends the episode, bool [B].
        disagreement: Spread of the ensemble, [B]; infinite where a prediction is not believed.
    """

    obs: NDArray[np.float32]
    reward: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    halted: NDArray[np.bool_]
    disagreement: NDArray[np.float64]


def step_rows(
    dynamics: RowDynamics,
    task: Task,
    obs: NDArray[np.float32],
    action: NDArray[Any],
    member: NDArray[np.int64],
    penalty: float,
    halt: float,
    disturb: Disturb | None = None,
) -> Outcome:
    """Predicts one step of every row.

    A prediction is not believed where a member's is not finite, or moves an observation by thousands of its logged
    standard deviations: the model has then left its data far behind, and the row halts where it stands.

    Args:
        dynamics: Ensemble bound to the rows' agents.
        task: Known reward and termination.
        obs: Observations, [B, D].
        action: Actions inside their space, [B] or [B, A].
        member: Member that predicts each row, or -1 for the mean, [B].
        penalty: Reward taken off a unit of disagreement.
        halt: Disagreement past which a row halts; `NO_HALT` for never.
        disturb: Makes outcomes of expected next observations; None for expectations.
    """
    following, spread = dynamics.step(obs, action, member)
    if disturb is not None:
        following = np.where((spread <= NO_HALT)[:, None], disturb(obs, action, following), following)
    reward = np.asarray(task.reward(obs, action, following), dtype=np.float64)
    terminated = np.asarray(task.terminated(following))
    if penalty:
        reward = reward - penalty * spread
    halted = spread > halt
    if halted.any():
        believed = spread <= NO_HALT
        reward = np.where(believed, reward, 0.0)
        terminated = terminated & believed
        halted = halted & ~terminated
    return Outcome(following, reward, terminated, halted, spread)


STARTS = ("domain", "logged")
FACTORS = ("mean", "sample")


@dataclass(frozen=True)
class Binding:
    """A loaded simulator, which agent each row is, and what the keywords of the environment ask for.

    Attributes:
        simulator: The loaded simulator, or a model that takes its place.
        agents: Number of each row's agent, [B].
        domain: Its domain; None for data of no domain of ours.
        dynamics: The ensemble bound to the rows' agents.
        member: "mean", "random" or a member's index.
        penalty: Reward taken off a unit of disagreement.
        halt: Disagreement past which a row halts; `NO_HALT` for never.
        first: Logged first observations to start from, [E, D]; None for the domain's reset distribution.
        begin: Where each row's agent begins among them, [B].
        count: How many each row's agent has, [B].
        series: The rows with their series, where the simulator has exogenous columns; None for others.
        draw: Finds the series of an episode.
        disturbance: What makes outcomes of predictions; None for nothing.
    """

    simulator: LearnedModel
    agents: list[int]
    domain: Domain | None
    dynamics: RowDynamics
    member: str | int
    penalty: float
    halt: float
    first: NDArray[np.float32] | None
    begin: NDArray[np.int64]
    count: NDArray[np.int64]
    series: SeriesRows | None = None
    draw: Draw | None = None

    def ended(self) -> NDArray[np.bool_]:
        """Rows whose exogenous series has come to its end, bool [B]."""
        return np.zeros(len(self.begin), dtype=np.bool_) if self.series is None else self.series.ended()

    disturbance: Disturbance | None = None

    def step(
        self, obs: NDArray[np.float32], action: NDArray[Any], active: NDArray[np.int64], rng: np.random.Generator
    ) -> Outcome:
        """One step of every row; `active` is the member that predicts each, or `MEAN_MEMBER`; `rng` draws noise."""
        disturb = None
        if self.disturbance is not None:
            disturb = partial(self.disturbance, random=self.disturbance.random(rng, len(obs)))
        return step_rows(self.dynamics, self.simulator.task, obs, action, active, self.penalty, self.halt, disturb)

    def with_noise(self, noise: str) -> "Binding":
        """The same, under a noise.

        Raises:
            ValueError: If there is no such noise, or the model lacks what it takes.
        """
        logged = logged_data(self.simulator) if noise == "residual" else None
        return replace(self, disturbance=self.simulator.disturbance(noise, logged))

    def active(self) -> NDArray[np.int64]:
        """Member that predicts each row until `draw_members` says otherwise, [B]."""
        return np.full(len(self.begin), self.member if isinstance(self.member, int) else MEAN_MEMBER)

    def draw_members(self, rng: np.random.Generator, active: NDArray[np.int64], rows: NDArray[np.int64]) -> None:
        """Draws the member of `rows` for an episode where a random one was asked for."""
        if self.member == "random":
            active[rows] = rng.integers(self.dynamics.members, size=len(rows))

    def rebind(self, row: int, factor: torch.Tensor) -> None:
        """Gives a row another latent factor, [M, R]."""
        # Other models hold no beliefs to take a factor from.
        assert isinstance(self.dynamics, BatchDynamics | SeriesRows)
        self.dynamics.rebind(row, factor)

    def draw_starts(self, rng: np.random.Generator, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """First observations of `rows`, [rows, D], which forget what they did before."""
        self.dynamics.begin(rows)
        episodes: list[int] | None = None
        if self.first is not None:
            episodes = (self.begin[rows] + rng.integers(self.count[rows])).tolist()
            start: NDArray[np.float32] = self.first[episodes]
        else:
            assert self.domain is not None  # Without a domain there are logged first observations.
            start = self.domain.observe(self.domain.initial_state(rng, len(rows))).astype(np.float32)
            start = self.simulator.spec.layout.begin(start)
        if self.series is not None and self.draw is not None:
            for place, row in enumerate(rows.tolist()):
                drawn = self.draw(rng, self.agents[row], None if episodes is None else episodes[place])
                self.series.give(row, drawn, start[place])
        return start

    def checked_start(self, given: Any) -> NDArray[np.float32]:
        """Returns a first observation, [D], of `options["obs"]`; one without the past gets its usual one.

        Raises:
            ValueError: If it is not in the observation space.
        """
        start, layout = np.array(given, dtype=np.float32), self.simulator.spec.layout
        if layout.past and start.shape == (layout.present,):
            start = layout.begin(start[None])[0]
        if not self.simulator.observation_space.contains(start):
            raise ValueError(f"options['obs'] = {given!r} is not in {self.simulator.observation_space}")
        return start

    def renderer(self, agent: int, render_mode: str) -> Renderer:
        """A new renderer of an agent; one that the population does not hold is drawn with default covariates."""
        assert self.domain is not None  # Without a domain there is no render mode.
        known = agent < len(self.domain.population)
        return self.domain.make_renderer(render_mode, self.domain.resolve_covariates(agent if known else None, {}))


def bind(
    simulator: str,
    agents: Sequence[int | str],
    member: str | int,
    penalty: float,
    halt: float | None,
    starts: str,
    *,
    factor: str = "mean",
    apart: bool = False,
    trust: bool = False,
    exogenous: Exogenous = LOGGED,
) -> Binding:
    """Loads a simulator and binds rows to agents, which are named or numbered; arguments as `PersimEnv`.

    With `apart`, or where factors are drawn, each row has weights of its own.

    Raises:
        UnknownSimulatorError: If there is no such simulator.
        ValueError: If an agent, the member, the penalty, the halt or the starts do not exist.
    """
    with _one_thread():
        loaded = load_learned(simulator, trust)
        numbers = [loaded.agent_number(agent) for agent in agents]
        dynamics = loaded.rows(numbers, apart=apart or factor == "sample")
    domain = DOMAINS.get(loaded.card.domain)
    member = _checked_member(member, dynamics.members)
    if not np.isfinite(penalty) or penalty < 0 or (halt is not None and not halt > 0):
        raise ValueError(f"penalty={penalty} must be finite and at least 0, halt={halt} None or above 0")
    if factor not in FACTORS:
        raise ValueError(f'factor={factor!r}; use "mean" or "sample"')
    if starts not in STARTS:
        raise ValueError(f'starts={starts!r}; use "domain" for its reset distribution, or "logged"')
    rows = np.asarray(numbers, dtype=np.int64)
    begin = np.searchsorted(loaded.start_agents, rows)
    count = np.searchsorted(loaded.start_agents, rows, side="right") - begin
    if domain is None and len(loaded.start_agents):  # An agent without logged first observations starts as any other.
        begin, count = np.where(count, begin, 0), np.where(count, count, len(loaded.start_agents))
    elif domain is None:
        raise ValueError(f"simulator {loaded.card.name} holds no first observations; train it again")
    if starts == "logged" and not count.all():
        raise ValueError(
            f"simulator {loaded.card.name} holds no logged first observation of agent {rows[count == 0][0]}; use "
            'starts="domain", or train it again with this version'
        )
    limit = NO_HALT if halt is None else min(float(halt), NO_HALT)
    first = loaded.start_obs if starts == "logged" or domain is None else None
    bound = Binding(loaded, numbers, domain, dynamics, member, float(penalty), limit, first, begin, count)
    outside = loaded.spec.layout.outside
    if not (size := loaded.spec.layout.exogenous):
        if not (isinstance(exogenous, str) and exogenous == LOGGED):
            raise ValueError(f"simulator {loaded.card.name} has no exogenous columns; leave exogenous out")
        return bound
    assert isinstance(loaded, Simulator) and isinstance(dynamics, BatchDynamics)  # No other model has a layout.
    if loaded.series is None and isinstance(exogenous, str) and exogenous == LOGGED:
        exogenous = HELD
    draw = draw_of(exogenous, loaded.series, loaded.start_agents, loaded.agent_number, size)
    series = SeriesRows(dynamics, outside, len(rows))
    return replace(bound, dynamics=series, series=series, draw=draw)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps torch to one thread, so that their number does not show in the last bits of what is folded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _checked_member(member: Any, members: int) -> str | int:
    if isinstance(member, str) and member in ("mean", "random"):
        return member
    if isinstance(member, int | np.integer) and 0 <= member < members:
        return int(member)
    raise ValueError(f'member={member!r}; use "mean", "random" or an index 0–{members - 1}')
