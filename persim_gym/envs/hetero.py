"""The true environments: one class for single, one for batched use, over every domain."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import Domain, Renderer
from persim_gym.envs.spaces import checked_actions, checked_options, own_space
from persim_gym.envs.specification import PlainSpecification
from persim_gym.envs.vector import Advance, BatchedVectorEnv
from persim_gym.suggest import suggestion


def domain_of(domain: str) -> Domain:
    """Looks a domain up by name.

    Raises:
        ValueError: If there is no such domain; lists those that exist.
    """
    if domain not in DOMAINS:
        raise ValueError(f"unknown domain {domain!r}; {suggestion(domain, DOMAINS)}")
    return DOMAINS[domain]


class HeteroEnv(PlainSpecification, gym.Env[NDArray[np.float32], Any]):
    """The true environment of one agent.

    Observations and actions are those of the domain; the covariates are not observed. With default covariates the
    episodes equal Gymnasium's own environment, but for the documented reward at MountainCar's goal and time limits.

    Attributes:
        domain: The domain.
        covariates: This agent's covariates by name; change nothing here, make another environment instead.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}

    def __init__(
        self, domain: str, agent: int | None = None, render_mode: str | None = None, **covariates: float
    ) -> None:
        """Builds the environment of an agent of the population, or of covariates by name.

        Args:
            domain: Name of the domain; set by the registered id.
            agent: Agent of the population, 0–499; 0–4 are the thesis's test agents.
            render_mode: None, "human" or "rgb_array".
            **covariates: Covariates by name instead of an agent; those left out take the default.

        Raises:
            ValueError: If the agent, a covariate or the render mode does not exist or is out of range.
        """
        self.domain = domain_of(domain)
        self.covariates = self.domain.resolve_covariates(agent, covariates)
        self.metadata = {**self.metadata, "render_fps": self.domain.render_fps}
        self.render_mode = checked_render_mode(render_mode, self.metadata["render_modes"])
        self.observation_space = own_space(self.domain.observation_space)  # type: ignore[arg-type]
        self.action_space = own_space(self.domain.action_space)
        self._physics = self.domain.physics(**self.covariates)
        self._state: NDArray[np.float64] | None = None
        self._renderer: Renderer | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window, which a copy opens anew."""
        return {**self.__dict__, "_renderer": None}

    @property
    def state(self) -> NDArray[np.float64]:
        """A copy of the full physical state, [S].

        Raises:
            ValueError: Before the first reset.
        """
        if self._state is None:
            raise ValueError("call reset() first: there is no state yet")
        return self._state.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode; `options["state"]`, [S], sets the full physical state instead of drawing it."""
        super().reset(seed=seed)
        start = self.domain.initial_state(self.np_random, 1)[0]
        if "state" in checked_options(options, "state"):
            start = checked_state((options or {})["state"], len(start))
        self._state = start
        if self.render_mode == "human":
            self.render()
        return self.domain.observe(start).astype(np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Applies one action.

        Raises:
            ValueError: If the action is outside the space, or `reset` was not called.
        """
        action = checked_actions(self.action_space, action)
        before = self.state
        self._state = self._physics(before, action)
        next_obs = self.domain.observe(self._state)
        if self.domain.exact_reward is not None:
            reward = float(self.domain.exact_reward(before, action, self._state))
        else:
            reward = float(self.domain.task.reward(self.domain.observe(before), action, next_obs))
        terminated = bool(self.domain.task.terminated(next_obs))
        if self.render_mode == "human":
            self.render()
        return next_obs.astype(np.float32), reward, terminated, False, {}

    def render(self) -> Any:
        """Draws the current state as Gymnasium does: an image in rgb_array mode, a window in human mode."""
        if self.render_mode is None:
            gym.logger.warn('render() without a render mode; make the environment with render_mode="rgb_array"')
            return None
        if self._renderer is None:
            self._renderer = self.domain.make_renderer(self.render_mode, self.covariates)
        return self._renderer.render(self.state)

    def close(self) -> None:
        """Closes the window."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


# `VectorEnv` is named once more because skrl knows an environment by its direct bases.
class HeteroVectorEnv(BatchedVectorEnv, VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]]):
    """The true environments of many agents, all stepped in one batched call.

    Attributes:
        domain: The domain.
        covariates: Covariates of the rows by name, [B] each.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}

    def __init__(
        self,
        domain: str,
        num_envs: int,
        agents: Sequence[int] | None = None,
        agent: int | None = None,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **covariates: float | Sequence[float],
    ) -> None:
        """Builds one row an agent.

        Args:
            domain: Name of the domain; set by the registered id.
            num_envs: Number of rows B.
            agents: Agent of each row, [B].
            agent: Agent of all rows, instead of `agents`.
            max_episode_steps: Time limit; None for the domain's, -1 for none.
            autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.
            render_mode: None or "rgb_array".
            **covariates: Covariates by name instead of agents, a number for all rows or one a row, [B].

        Raises:
            ValueError: If the number of agents is not the number of rows, or as for `HeteroEnv`.
        """
        if agent is not None and agents is not None:
            raise ValueError(f"agent={agent} and agents={agents} both say which agents; give one of them")
        self.domain = domain_of(domain)
        super().__init__(
            num_envs,
            self.domain.observation_space,
            self.domain.action_space,
            self.domain.episode_steps if max_episode_steps is None else max_episode_steps,
            autoreset_mode,
        )
        self.metadata = {**self.metadata, "render_fps": self.domain.render_fps}
        self.render_mode = checked_render_mode(render_mode, self.metadata["render_modes"])
        rows = [
            self.domain.resolve_covariates(agent, named)
            for agent, named in zip(
                _one_a_row("agents", agent if agents is None else agents, num_envs),
                _spread_covariates(covariates, num_envs),
                strict=True,
            )
        ]
        self.covariates = {c.name: np.array([row[c.name] for row in rows]) for c in self.domain.covariates}
        self._rows = rows
        self._physics = self.domain.physics(**self.covariates)
        self._state: NDArray[np.float64] = self.domain.initial_state(np.random.default_rng(0), num_envs)
        self._obs: NDArray[np.float64] = self.domain.observe(self._state)

    @property
    def state(self) -> NDArray[np.float64]:
        """A copy of the full physical states, [B, S]."""
        return self._state.copy()

    def _restart(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None) -> None:
        self._state[rows] = self._draw_states(self.domain, rows, rngs)
        self._obs = self.domain.observe(self._state)

    def _advance(self, actions: NDArray[Any]) -> Advance:
        obs = self._obs
        self._state = self._physics(self._state, actions)
        self._obs = self.domain.observe(self._state)
        reward = np.asarray(self.domain.task.reward(obs, actions, self._obs), dtype=np.float64)
        terminated = self.domain.task.terminated(self._obs)
        return Advance(reward, terminated, np.zeros_like(terminated), {})

    def _start_info(self) -> dict[str, NDArray[Any]]:
        return {}

    def _observation(self) -> NDArray[np.float32]:
        return self._obs.astype(np.float32)

    def _place(self, row: int, options: dict[str, Any]) -> None:
        if "state" in checked_options(options, "state"):
            self._state[row] = checked_state(options["state"], self._state.shape[1])
            self._obs = self.domain.observe(self._state)

    def row_attributes(self, row: int) -> dict[str, Any]:
        """The row's covariates and state."""
        return {"covariates": dict(self._rows[row]), "state": self._state[row].copy()}

    def _renderer(self, row: int) -> Renderer:
        assert self.render_mode is not None
        return self.domain.make_renderer(self.render_mode, self._rows[row])

    def _drawn_states(self) -> NDArray[np.float64]:
        return self._state


def checked_state(given: Any, size: int) -> NDArray[np.float64]:
    """Returns a full physical state, [S], of `options["state"]`.

    Raises:
        ValueError: If it is not `size` finite numbers.
    """
    state = np.array(given, dtype=np.float64)
    if state.shape != (size,) or not np.isfinite(state).all():
        raise ValueError(f"options['state'] must be {size} finite numbers, got {given!r}")
    return state


def checked_render_mode(render_mode: str | None, known: Sequence[str]) -> str | None:
    """Returns the render mode.

    Raises:
        ValueError: If it is not None and not known.
    """
    if render_mode is not None and render_mode not in known:
        raise ValueError(f"render_mode={render_mode!r} is not supported; use None, {', '.join(map(repr, known))}")
    return render_mode


def _one_a_row(name: str, values: Any, num_envs: int) -> list[Any]:
    """One value a row."""
    if values is None or np.ndim(values) == 0:
        return [values] * num_envs
    if len(values) != num_envs:
        raise ValueError(f"{len(values)} {name} for {num_envs} rows; give exactly one a row")
    return list(np.asarray(values).tolist())


def _spread_covariates(covariates: dict[str, Any], num_envs: int) -> list[dict[str, float]]:
    columns = {name: _one_a_row(f"values of {name}", values, num_envs) for name, values in covariates.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(num_envs)]
