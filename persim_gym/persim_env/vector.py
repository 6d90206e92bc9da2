"""The learned simulators of many agents as one vector environment."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from persim_gym.envs.domain import Renderer
from persim_gym.envs.hetero import checked_render_mode
from persim_gym.envs.spaces import checked_options
from persim_gym.envs.vector import Advance, BatchedVectorEnv
from persim_gym.persim_env.exogenous import LOGGED, Exogenous
from persim_gym.persim_env.stepper import bind
from persim_gym.simulator.registry import DEFAULT_SIMULATOR


# `VectorEnv` is named once more because skrl knows an environment by its direct bases.
class PersimVectorEnv(BatchedVectorEnv, VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """Many rows of `PersimEnv`, each with its own agent, predicted in one batched call.

    A row equals the single environment to float32 rounding: matrix products round differently by batch size.
    `info["disagreement"]` and `info["halt"]` hold one value a row, after resets too (0 and False), as Gymnasium's own
    vector environments of single ones have them.

    Attributes:
        simulator: The loaded simulator.
        domain: Its domain; None for data of no domain, whose episodes start as logged ones.
        agents: Number of each row's agent, [B].
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        num_envs: int,
        agents: Sequence[int | str] | None = None,
        agent: int | str | None = None,
        simulator: str = DEFAULT_SIMULATOR,
        member: str | int = "mean",
        penalty: float = 0.0,
        halt: float | None = None,
        starts: str = "domain",
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        factor: str = "mean",
        trust: bool = False,
        exogenous: Exogenous = LOGGED,
        noise: str = "none",
    ) -> None:
        """Loads the simulator and binds each row to an agent.

        Args:
            num_envs: Number of rows B.
            agents: Number or name of each row's agent, [B]; None for `agent` in all.
            agent: Agent of all rows, instead of `agents`; 0 without either.
            simulator: Name or path of a simulator, or of a CaDM.
            member: "mean", "random" (one member an episode and row), or a member's index.
            penalty: Reward taken off a unit of disagreement.
            halt: Disagreement past which a row's episode is truncated; None for never.
            starts: First observations: "domain" for its reset distribution, "logged" for each agent's in the data.
            max_episode_steps: Time limit; None for the simulator's, -1 for none.
            autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
            render_mode: None or "rgb_array".
            factor: Latent factors: "mean" of what is believed, or "sample" for a draw an episode and row.
            trust: See `load_simulator`.
            exogenous: As `PersimEnv`, for each row.
            noise: See `PersimEnv`; all rows draw from one random stream.

        Raises:
            UnknownSimulatorError: If there is no such simulator.
            ValueError: If the number of agents is not the number of rows, or as for `PersimEnv`.
        """
        if isinstance(agents, str):
            raise ValueError(f"agents are numbers or names, one a row, not {agents!r}")
        if agent is not None and agents is not None:
            raise ValueError(f"agent={agent} and agents={agents} both say which agents; give one of them")
        named: Sequence[int | str] = [agent or 0] * num_envs if agents is None else agents
        given = [a.item() if isinstance(a, np.generic) else a for a in named]
        if len(given) != num_envs:
            raise ValueError(f"{len(given)} agents for {num_envs} rows; give exactly one a row")
        self._bound = bind(
            simulator, given, member, penalty, halt, starts, factor=factor, trust=trust, exogenous=exogenous
        ).with_noise(noise)
        self.simulator, self.agents = self._bound.simulator, self._bound.agents
        self.domain = self._bound.domain
        self._beliefs = self.simulator.known_beliefs() if factor == "sample" else None
        super().__init__(
            num_envs,
            self.simulator.observation_space,
            self.simulator.action_space,
            self.simulator.episode_steps if max_episode_steps is None else max_episode_steps,
            autoreset_mode,
        )
        if self.domain is not None:
            self.metadata = {**self.metadata, "render_fps": self.domain.render_fps}
        else:
            self.metadata = {**self.metadata, "render_modes": []}
        self.render_mode = checked_render_mode(render_mode, self.metadata["render_modes"])
        self._active = self._bound.active()
        self._size = self.simulator.observation_space.shape[0]
        self._obs = np.zeros((num_envs, self._bound.dynamics.columns), dtype=np.float32)

    def _restart(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None) -> None:
        parts = [(self.np_random, rows)] if rngs is None else list(zip(rngs, rows[:, None], strict=True))
        for rng, some in parts:
            self._obs[some, : self._size] = self._bound.draw_starts(rng, some)
            self._bound.draw_members(rng, self._active, some)
            if self._beliefs is not None:
                for row in some:
                    believed = self._beliefs.sample(self.agents[row], rng).float()
                    self._bound.rebind(int(row), believed)

    def _advance(self, actions: NDArray[Any]) -> Advance:
        outcome = self._bound.step(self._obs, actions, self._active, self.np_random)
        self._obs = outcome.obs
        info = {"disagreement": outcome.disagreement, "halt": outcome.halted}
        return Advance(outcome.reward, outcome.terminated, outcome.halted | self._bound.ended(), info)

    def exogenous_ahead(self, row: int) -> NDArray[np.float32] | None:
        """As `PersimEnv.exogenous_ahead`, of a row."""
        series = self._bound.series
        return None if series is None else series.ahead(row)

    def _start_info(self) -> dict[str, NDArray[Any]]:
        return {"disagreement": np.zeros(self.num_envs), "halt": np.zeros(self.num_envs, dtype=np.bool_)}

    def _observation(self) -> NDArray[np.float32]:
        return self._obs[:, : self._size].copy()

    def _place(self, row: int, options: dict[str, Any]) -> None:
        if "obs" in checked_options(options, "obs"):
            self._obs[row, : self._size] = self._bound.checked_start(options["obs"])

    def row_attributes(self, row: int) -> dict[str, Any]:
        """The row's agent."""
        return {"agent": self.agents[row]}

    def _renderer(self, row: int) -> Renderer:
        assert self.render_mode is not None
        return self._bound.renderer(self.agents[row], self.render_mode)

    def _drawn_states(self) -> NDArray[np.float64]:
        assert self.domain is not None  # Without a domain there is no render mode.
        states: NDArray[np.float64] = self.domain.embed(
            self._obs[:, : self.simulator.spec.layout.present].astype(np.float64)
        )
        return states
