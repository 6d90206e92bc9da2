"""Where candidates act: a learned model, and the data behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.of_simulator import logged_data
from persim_gym.envs import DOMAINS, Domain
from persim_gym.models import LearnedModel, load_learned
from persim_gym.simulator.noise.disturbance import NOISES, Disturbance
from persim_gym.simulator.registry import find_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.spec import LEARNED_TASK
from persim_gym.storage import CARD
from persim_gym.transitions import Transitions

RETURN, TERMINAL = OBJECTIVES = ("return", "terminal")
"""What an episode is worth: the sum of its rewards, or the reward of its last step alone."""
AUTO = "auto"
"""The noise that a simulator has: Gaussian where that was measured, else none."""
MAX_RESIDUALS = 50_000
"""Logged transitions whose residuals noise is drawn from, where there are more."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A learned model that is on disk.

    Attributes:
        folder: Where it is.
        model: What is loaded from there.
    """

    folder: str
    model: LearnedModel

    @classmethod
    def of(cls, simulator: str | Path | Simulator, trust: bool = False) -> "Setting":
        """Finds a model by name or path, or takes one that is on disk.

        Raises:
            ValueError: If there is none, or it is not on disk.
        """
        if isinstance(simulator, Simulator):
            if not (simulator.folder / CARD).is_file():
                raise ValueError(f"simulator {simulator.card.name} is not on disk; save it first: simulator.save()")
            simulator = simulator.folder
        model = load_learned(simulator, trust)
        return _setting_at(str(find_simulator(simulator).resolve()), model.card.sha256)

    @property
    def domain(self) -> Domain | None:
        """Its domain; None for data of no domain of ours."""
        return DOMAINS.get(self.model.card.domain)

    @cached_property
    def data(self) -> Transitions:
        """What the model was trained on.

        Raises:
            ValueError: If that is not here as it was.
        """
        return logged_data(self.model)

    def rewards(self, data: Transitions) -> NDArray[np.float64]:
        """Rewards of transitions, [K], by the simulator's own task where that is not learned."""
        if self.model.spec.task == LEARNED_TASK:
            return np.asarray(data.reward, dtype=np.float64)
        return np.asarray(self.model.task.reward(data.obs, data.action, data.next_obs), dtype=np.float64)

    def noise(self, asked: str) -> str:
        """The noise that is meant: one of `NOISES`."""
        if asked != AUTO:
            return asked
        return "gaussian" if isinstance(self.model, Simulator) and self.model.noise is not None else "none"

    def numbers(self, agents: Sequence[int | str]) -> list[int]:
        """Numbers of agents, each once.

        Raises:
            ValueError: If there is none, or one is unknown.
        """
        found = list(dict.fromkeys(self.model.agent_number(agent) for agent in agents))
        if not found:
            raise ValueError("no agent is given; name at least one")
        if unknown := [agent for agent in found if not 0 <= agent < self.model.n_agents]:
            count = self.model.n_agents
            raise ValueError(f"agent {unknown[0]} is not in this simulator ({count} agents: 0–{count - 1})")
        return found

    def own(self, agent: int) -> Transitions:
        """Logged transitions of an agent.

        Raises:
            ValueError: If there are none.
        """
        mine = self.data.agent == agent
        if not mine.any():
            raise ValueError(
                f"agent {self.model.agent_name(agent)} has no logged transitions in {self.data.source}, so that its "
                "behaviour cannot be cloned; give another baseline (--baseline NAME), or none (--baseline none)"
            )
        return self.data.select(mine)


@lru_cache(maxsize=2)
def _setting_at(folder: str, sha256: str) -> Setting:
    """The setting of some weights, so that its data are read once."""
    return Setting(folder, load_learned(folder))


@lru_cache(maxsize=4)
def disturbance_of(setting: Setting, noise: str) -> Disturbance | None:
    """What makes outcomes of predictions; None for nothing.

    Args:
        setting: The simulator.
        noise: One of `NOISES`.

    Raises:
        ValueError: If the simulator lacks what it takes.
    """
    logged = None
    if noise == "residual":
        logged = setting.data
        if len(logged) > MAX_RESIDUALS:
            some = np.zeros(len(logged), dtype=np.bool_)
            some[np.random.default_rng(0).permutation(len(logged))[:MAX_RESIDUALS]] = True
            logged = logged.select(some)
    return setting.model.disturbance(noise, logged)


class Sampling(NamedTuple):
    """How candidates are rolled out.

    Attributes:
        draws: Draws K of what the simulator does not know.
        episodes: Episodes E of each draw.
        steps: Longest episode; 0 for the simulator's limit.
        discount: Of rewards, a step.
        seed: Source of all randomness.
        noise: `AUTO`, or one of `persim_gym.simulator.noise.disturbance.NOISES`.
        objective: What an episode is worth, one of `OBJECTIVES`.
    """

    draws: int = 30
    episodes: int = 10
    steps: int = 0
    discount: float = 1.0
    seed: int = 0
    noise: str = AUTO
    objective: str = RETURN

    def limit(self, episode_steps: int) -> int:
        """Steps of the longest episode of a model that has this limit."""
        return min(self.steps or episode_steps, episode_steps)

    def check(self) -> None:
        """Refuses what cannot be rolled out.

        Raises:
            ValueError: If a number is impossible.
        """
        if self.draws < 2 or self.episodes < 1 or self.steps < 0 or self.seed < 0:
            raise ValueError(f"{self}: give at least 2 draws and 1 episode, and neither steps nor seed below 0")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount={self.discount} is not in (0, 1]; 1 counts all rewards alike")
        if self.noise not in (AUTO, *NOISES):
            raise ValueError(f"noise={self.noise!r} is none of {', '.join((AUTO, *NOISES))}")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective={self.objective!r} is none of {', '.join(OBJECTIVES)}")
