"""The learned simulators of many agents as one vector environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from persim_gym.envs import DOMAINS
from persim_gym.envs.vector import Advance, BatchedVectorEnv
from persim_gym.persim_env.env import checked_factor, checked_member, checked_trust
from persim_gym.persim_env.outcome import MEAN, step_rows
from persim_gym.persim_env.starts import draw_starts
from persim_gym.simulator.card import DEFAULT_SIMULATOR, load_simulator
from persim_gym.simulator.rows import RowsDynamics


class PersimVectorEnv(BatchedVectorEnv):
    """Many rows of `PersimEnv`, each with its own agent, predicted in one batched call.

    A row equals the single environment to float32 rounding: matrix products round differently by batch size.
    `info["disagreement"]` and `info["halt"]` hold one value a row.

    Attributes:
        simulator: The loaded simulator.
        domain: Its domain; None for data of no domain, whose episodes start as logged ones.
        agents: Agent of each row, [B].
    """

    metadata = {"render_modes": [], "render_fps": 30}

    def __init__(
        self,
        num_envs: int,
        agents: Sequence[int] | None = None,
        agent: int = 0,
        simulator: str = DEFAULT_SIMULATOR,
        member: str | int = "mean",
        penalty: float = 0.0,
        halt: float | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: None = None,
        factor: str = "mean",
    ) -> None:
        """Loads the simulator and binds each row to an agent.

        Args:
            num_envs: Number of rows B.
            agents: Agent of each row, [B]; None for `agent` in all.
            agent: See `agents`.
            simulator: Name or path of a simulator.
            member: "mean", "random" (one member an episode and row), or a member's index.
            penalty: Reward taken off a unit of disagreement.
            halt: Disagreement past which a row's episode is truncated; None for never.
            max_episode_steps: Time limit; None for the domain's.
            autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
            render_mode: None; make a single environment to look at one.
            factor: Latent factors: "mean" of what is believed, or "sample" for a draw an episode and row.

        Raises:
            UnknownSimulatorError: If there is no such simulator.
            ValueError: If the number of agents is not the number of rows, or as for `PersimEnv`.
        """
        self.simulator = load_simulator(simulator)
        self.domain = DOMAINS.get(self.simulator.card.domain)
        self.agents = [agent] * num_envs if agents is None else [int(a) for a in agents]
        if len(self.agents) != num_envs:
            raise ValueError(f"{len(self.agents)} agents for {num_envs} rows; give exactly one a row")
        super().__init__(
            num_envs,
            self.simulator.observation_space,
            self.simulator.action_space,
            max_episode_steps or self.simulator.episode_steps,
            autoreset_mode,
        )
        if self.domain is not None:
            self.metadata = {**self.metadata, "render_fps": self.domain.render_fps}
        self.render_mode = render_mode
        self._beliefs = self.simulator.known_beliefs() if checked_factor(factor) else None
        self._dynamics = RowsDynamics(self.simulator.model, self.agents, apart=self._beliefs is not None)
        self._member = checked_member(member, self._dynamics.members)
        self._penalty, self._halt = checked_trust(penalty, halt)
        self._active = np.full(num_envs, self._member if isinstance(self._member, int) else MEAN)
        self._size = self.simulator.model.shape.obs_dim
        self._obs = np.zeros((num_envs, self.simulator.model.shape.out_dim), dtype=np.float32)

    def _restart(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None) -> None:
        streams = self.np_random if rngs is None else rngs
        agents = [self.agents[row] for row in rows]
        self._obs[rows, : self._size] = draw_starts(self.simulator, self.domain, agents, streams)
        if self._member == "random":
            if rngs is None:
                self._active[rows] = self.np_random.integers(self._dynamics.members, size=len(rows))
            else:
                self._active[rows] = [rng.integers(self._dynamics.members) for rng in rngs]
        if self._beliefs is not None:
            for i, row in enumerate(rows):
                rng = self.np_random if rngs is None else rngs[i]
                self._dynamics.rebind(int(row), self._beliefs.sample(self.agents[row], rng).float())

    def _advance(self, actions: NDArray[Any]) -> Advance:
        outcome = step_rows(
            self._dynamics, self.simulator.task, self._obs, actions, self._active, self._penalty, self._halt
        )
        self._obs = outcome.obs
        info = {"disagreement": outcome.disagreement, "halt": outcome.halted}
        return Advance(outcome.reward, outcome.terminated, outcome.halted, info)

    def _observation(self) -> NDArray[np.float32]:
        return self._obs[:, : self._size].copy()
