"""Returns in a simulator of data of no domain, which has no true environment: of a policy, and what to hold it against.

All of them are simulated from the same first observations; the returns that were logged stand beside them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from rich.table import Table

from persim_gym.actions import layout_of
from persim_gym.datasets.of_simulator import logged_data
from persim_gym.evaluation.acting import Policy, RandomPolicy
from persim_gym.evaluation.intervals import mean_interval
from persim_gym.models import LearnedModel, load_learned
from persim_gym.planning import MPC
from persim_gym.simulator.simulator import Simulator
from persim_gym.spec import LEARNED_TASK
from persim_gym.transitions import Transitions

NEAREST = 5
"""Logged observations from whose actions cloned behaviour draws."""
MAX_CLONED = 2000
"""Logged transitions of an agent that its behaviour is cloned from."""
MAX_CONSTANTS = 20
"""Choices of a discrete action that are tried as constant actions."""
NO_TRUTH = "simulated; there is no true environment here"


class Returns(NamedTuple):
    """What some episodes brought.

    Attributes:
        earned: Return of each, [E].
        steps: Length of each, int64 [E].
    """

    earned: NDArray[np.float64]
    steps: NDArray[np.int64]


def simulated_returns(
    policy: Policy,
    simulator: str,
    agent: int,
    seeds: Sequence[int],
    steps: int = 0,
    foresight: bool = False,
    **environment: Any,
) -> Returns:
    """Lets a policy act in the simulator of an agent.

    Args:
        policy: Chooses actions.
        simulator: Name or path.
        agent: Number of the agent.
        seeds: Of the first observations, one an episode.
        steps: Longest episode; 0 for the simulator's limit.
        foresight: Whether the policy, a planner, knows what comes from outside.
        **environment: Further keywords of `PersimEnv`.
    """
    known, rows = load_learned(simulator), len(seeds)
    env = gym.make_vec(
        "persim_gym:PersimEnv-v0",
        num_envs=rows,
        vectorization_mode="vector_entry_point",
        agents=[given_name(known, agent)] * rows,
        simulator=simulator,
        **{"starts": "logged", **environment},
    )
    if foresight:
        assert isinstance(policy, MPC)  # No other policy looks ahead.
        policy.foresight = env.unwrapped.exogenous_ahead  # type: ignore[attr-defined]
    each: Any = [int(seed) for seed in seeds]  # Gymnasium's type of `seed` is one number.
    obs, _ = env.reset(seed=each)
    earned, taken = np.zeros(rows), np.zeros(rows, dtype=np.int64)
    running, started, memory = np.ones(rows, dtype=np.bool_), np.ones(rows, dtype=np.bool_), None
    while running.any() and not (steps and taken.max() >= steps):
        action, memory = policy.predict(obs, state=memory, episode_start=started, deterministic=True)
        obs, reward, terminated, truncated, _ = env.step(action)
        earned[running] += reward[running]
        taken[running] += 1
        running &= ~(terminated | truncated)
        started = np.zeros(rows, dtype=np.bool_)
    env.close()
    return Returns(earned, taken)


def given_name(known: LearnedModel, agent: int) -> int | str:
    """The name of an agent, which unlike a number is never another agent's; its number where it has none."""
    return known.agent_name(agent) if agent < len(known.labels.agents) else agent


class ConstantPolicy:
    """Always the same action."""

    def __init__(self, action: Any) -> None:
        """Takes the action, [] or [A]."""
        self.action = action

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """The action, once a row of [B, D]."""
        return np.repeat(np.asarray(self.action)[None], len(observation), axis=0), None


class ClonedPolicy:
    """What an agent did where its logged observations were closest: one of the nearest, at random."""

    def __init__(self, data: Transitions, agent: int, seed: int = 0) -> None:
        """Takes an agent's own transitions."""
        rows = np.flatnonzero(data.agent == agent)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_CLONED)).astype(np.int64)]
        self._unit = np.maximum(data.obs.std(axis=0), 1e-6)
        self._obs, self._action = data.obs[rows] / self._unit, data.action[rows]
        self._rng = np.random.default_rng(seed)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """An action for each row of [B, D]."""
        near = min(NEAREST, len(self._obs))
        apart = [np.square(self._obs - row).sum(axis=1) for row in observation / self._unit]
        chosen = [self._rng.choice(np.argpartition(each, near - 1)[:near]) for each in apart]
        return self._action[chosen], None


def constant_actions(known: LearnedModel) -> Iterator[tuple[str, Any]]:
    """Actions to try as constant ones, by what they are called: choices, and all amounts low, in the middle, high."""
    space, labels, layout = known.action_space, known.labels, layout_of(known.action_space)
    if isinstance(space, spaces.Discrete):
        for choice in _spread(int(space.n)):
            yield labels.choices[choice] if labels.choices else str(choice), choice
        return
    amounts: Any = [0.0]
    if isinstance(space, spaces.Box):
        amounts = [space.low + share * (space.high - space.low) for share in (0.0, 0.5, 1.0)]
    if layout is None:
        yield from zip(("lowest", "middle", "highest"), np.array(amounts, dtype=np.float32), strict=True)
        return
    for choice in _spread(layout.combinations):
        chosen = layout.table[choice]
        for seen in (np.where(layout.amounts, amount, chosen).astype(np.float32) for amount in amounts):
            yield layout.described(seen, labels.actions), layout.decoded(seen)


def _spread(count: int) -> NDArray[np.int64]:
    """At most `MAX_CONSTANTS` of the numbers below `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_CONSTANTS)).astype(np.int64))


def references(
    simulator: str, data: Transitions | None, agent: int, seeds: Sequence[int], steps: int = 0, **environment: Any
) -> dict[str, Returns]:
    """What else can be done in the simulator of an agent, and what was logged.

    Args:
        simulator: Name or path.
        data: What it was trained on, see `own_data`; None where that is not here.
        agent: Number of the agent.
        seeds: Of the first observations, one an episode.
        steps: Longest episode; 0 for the simulator's limit.
        **environment: Further keywords of `PersimEnv`.

    Returns:
        By what it is. Behaviour that was logged is left out where there are no data of the agent.
    """
    known = load_learned(simulator)

    def simulated(policy: Policy) -> Returns:
        return simulated_returns(policy, simulator, agent, seeds, steps, **environment)

    constant = {name: simulated(ConstantPolicy(action)) for name, action in constant_actions(known)}
    best = max(constant, key=lambda name: float(constant[name].earned.mean()))
    found = {
        "random actions": simulated(RandomPolicy(known.action_space, int(seeds[0]))),
        f"constant action, the best one: {best}": constant[best],
    }
    if data is not None and (data.agent == agent).any():
        found["logged behaviour, cloned"] = simulated(ClonedPolicy(data, agent, int(seeds[0])))
        found["logged behaviour, as logged (not simulated)"] = logged_returns(known, data, agent)
    return found


def own_data(simulator: str) -> Transitions | None:
    """The data that a simulator was trained on, where they are here as they were."""
    known = load_learned(simulator)
    if not isinstance(known, Simulator):
        return None
    try:
        return logged_data(known)
    except ValueError:
        return None


def logged_returns(known: LearnedModel, data: Transitions, agent: int) -> Returns:
    """Returns of an agent's logged episodes; by the simulator's own task, where its reward is not the logged one."""
    own = data.select(data.agent == agent)
    reward = own.reward.astype(np.float64)
    if known.spec.task != LEARNED_TASK:
        reward = np.asarray(known.task.reward(own.obs, own.action, own.next_obs), dtype=np.float64)
    _, episode = np.unique(own.trajectory, return_inverse=True)
    return Returns(np.bincount(episode, np.nan_to_num(reward)).astype(np.float64), np.bincount(episode))


def own_returns_table(title: str, names: Mapping[int, str], rows: Iterable[tuple[int, str, Returns]]) -> Table:
    """A row for each agent and policy.

    Args:
        title: Of the table.
        names: What agents are called, by number.
        rows: Number of the agent, what acted, and what it brought.
    """
    table = Table(title=title, caption=NO_TRUTH, header_style="bold")
    for column in ("agent", "what acts", "episodes", "steps", "mean return", "95 % interval", "a step"):
        table.add_column(column, justify="left" if column in ("agent", "what acts") else "right")
    shown = None
    for agent, what, (earned, steps) in rows:
        mean, low, high = mean_interval(earned)
        if shown not in (None, agent):
            table.add_section()
        table.add_row(
            "" if agent == shown else names[agent],
            what,
            str(len(earned)),
            f"{steps.mean():.4g}",
            f"{mean:.4g}",
            f"{low:.4g} to {high:.4g}" if len(earned) > 1 else "-",
            f"{earned.sum() / max(steps.sum(), 1):.4g}",
        )
        shown = agent
    return table
