"""The learned simulator of one agent as an environment."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import model_actions
from persim_gym.envs.domain import Renderer
from persim_gym.envs.hetero import checked_render_mode
from persim_gym.envs.spaces import checked_actions, checked_options, own_space
from persim_gym.envs.specification import PlainSpecification
from persim_gym.persim_env.exogenous import LOGGED, Exogenous
from persim_gym.persim_env.registration import note_limit
from persim_gym.persim_env.stepper import bind
from persim_gym.simulator.registry import DEFAULT_SIMULATOR

_ONE = np.zeros(1, dtype=np.int64)  # Index of the only row.


class PersimEnv(PlainSpecification, gym.Env[NDArray[np.float32], Any]):
    """The learned simulator of one agent, with the domain's observations, actions, reward and episode end.

    `info["disagreement"]` is the spread of the ensemble's predictions in standard deviations of the logged
    observations. The episode is truncated where `halt` says so, and where a prediction is not believed: not finite, or
    a change by thousands of logged standard deviations; disagreement is then infinite. `info["halt"]`, 1.0 or 0.0,
    tells both. Every reset and step has both keys, floats. `gymnasium.make` adds the time limit, by default the
    simulator's.

    Attributes:
        simulator: The loaded simulator.
        domain: Its domain; None for data of no domain, whose episodes start as logged ones and are not rendered.
        agent: Number of the agent.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}

    def __init__(
        self,
        agent: int | str = 0,
        simulator: str = DEFAULT_SIMULATOR,
        member: str | int = "mean",
        render_mode: str | None = None,
        penalty: float = 0.0,
        halt: float | None = None,
        starts: str = "domain",
        factor: str = "mean",
        trust: bool = False,
        exogenous: Exogenous = LOGGED,
        noise: str = "none",
    ) -> None:
        """Loads the simulator and binds it to an agent.

        Args:
            agent: Number or name of an agent of the simulator.
            simulator: Name (`<domain>/<policy>-v0`) or path of the folder of a simulator, or of a CaDM, which knows
                the agent by its last steps in the episode.
            member: "mean" of all members, "random" (one member an episode), or a member's index.
            render_mode: None, "human" or "rgb_array".
            penalty: Reward taken off a unit of disagreement.
            halt: Disagreement past which the episode is truncated; None for never.
            starts: First observations: "domain" for its reset distribution, "logged" for the agent's in the data.
            factor: The agent's latent factor: "mean" of what is believed, or "sample" for a draw an episode.
            trust: See `load_simulator`.
            exogenous: What exogenous columns show, where the simulator has any; see `persim_env.exogenous.Exogenous`.
                The episode is truncated where the series ends.
            noise: "none" for expected next observations; "residual" to add what the model got wrong on a logged
                transition close by; "gaussian" for normal noise whose spread depends on observation and action, and was
                measured by `persim calibrate`. Both are drawn by the random numbers that `reset(seed=…)` seeds.

        Raises:
            UnknownSimulatorError: If there is no such simulator.
            ValueError: If the agent, the member, the factor, the penalty, the starts, the noise or the render mode does
                not exist, or the simulator holds no beliefs or noise to draw from.
        """
        self._bound = bind(
            simulator,
            [agent],
            member,
            penalty,
            halt,
            starts,
            factor=factor,
            apart=True,
            trust=trust,
            exogenous=exogenous,
        ).with_noise(noise)
        self.simulator = self._bound.simulator
        self.domain = self._bound.domain
        self.agent = self._bound.agents[0]
        self._sampled = factor == "sample"
        self._given = agent
        self._online = self.simulator.online(agent) if self._sampled else None
        modes = self.metadata["render_modes"] if self.domain is not None else []
        fps = self.domain.render_fps if self.domain is not None else self.metadata["render_fps"]
        self.metadata = {"render_modes": modes, "render_fps": fps}
        self.render_mode = checked_render_mode(render_mode, modes)
        self.observation_space = own_space(self.simulator.observation_space)  # type: ignore[arg-type]
        self.action_space = own_space(self.simulator.action_space)
        self._size = self.simulator.observation_space.shape[0]
        self._drawn = self.simulator.spec.layout.present
        self._obs: NDArray[np.float32] | None = None
        self._active = self._bound.active()
        self._renderer: Renderer | None = None
        note_limit(self.simulator.episode_steps)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which a copy opens anew."""
        return {**self.__dict__, "_renderer": None}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode as `starts` says; `options["obs"]`, [D], sets the first observation instead."""
        super().reset(seed=seed)
        start = self._bound.draw_starts(self.np_random, _ONE)[0]
        if "obs" in checked_options(options, "obs"):
            start = self._bound.checked_start((options or {})["obs"])
        self._obs = start
        self._bound.draw_members(self.np_random, self._active, _ONE)
        if self._sampled and self._online is not None:
            self._bound.rebind(0, self._online.sample(self.np_random).factor)
        if self.render_mode == "human":
            self.render()
        return start.copy(), {"disagreement": np.float64(0.0), "halt": np.float64(0.0)}

    def learn(self, obs: Any, action: Any, next_obs: Any, reward: Any = None, terminated: Any = None) -> None:
        """Learns about its agent from transitions of the true environment; they count from the next step on.

        With `factor="sample"` they count from the next reset on. The simulator's files do not change.

        Args:
            obs: Observation before the action, [D] or [K, D].
            action: Action, one or K.
            next_obs: Observation after the action, as `obs`.
            reward: Reward, one or K, which counts where the simulator has learned rewards; None if it is not known.
            terminated: Whether the episode ended there, likewise.

        Raises:
            ValueError: If a value is not finite, or the simulator holds no prior.
        """
        if self._online is None:
            self._online = self.simulator.online(self._given)
        self._online.update(obs, model_actions(self.action_space, action), next_obs, reward, terminated)
        if not self._sampled:
            self._bound.rebind(0, self._online.factor)

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Predicts the next observation.

        Raises:
            ValueError: If the action is outside the space, or `reset` was not called.
        """
        action = checked_actions(self.action_space, action)
        if self._obs is None:
            raise ValueError("call reset() before step()")
        outcome = self._bound.step(self._obs[None], action[None], self._active, self.np_random)
        self._obs = outcome.obs[0]
        halted = bool(outcome.halted[0])
        truncated = halted or bool(self._bound.ended()[0])
        # NumPy's float64 is a Python float, for JSON and Arrow, and has a dtype, for TorchRL. No bool is both.
        info = {"disagreement": outcome.disagreement[0], "halt": np.float64(halted)}
        if self.render_mode == "human":
            self.render()
        return self._obs[: self._size].copy(), float(outcome.reward[0]), bool(outcome.terminated[0]), truncated, info

    def exogenous_ahead(self, row: int = 0) -> NDArray[np.float32] | None:
        """What exogenous columns will show from the next step on, [h, X]; None where they are held, or there are none.

        Args:
            row: 0; batched environments have more.
        """
        series = self._bound.series
        return None if series is None else series.ahead(row)

    def render(self) -> Any:
        """Draws the predicted state with the domain's renderer."""
        if self.render_mode is None:
            gym.logger.warn('render() without a render mode; make the environment with render_mode="rgb_array"')
            return None
        if self._obs is None:
            raise ValueError("call reset() before render()")
        if self._renderer is None:
            self._renderer = self._bound.renderer(self.agent, self.render_mode)
        assert self.domain is not None  # Without a domain there is no render mode.
        return self._renderer.render(self.domain.embed(self._obs[: self._drawn].astype(np.float64)))

    def close(self) -> None:
        """Closes the window."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
