"""Stable-Baselines3 vector environments over the package's own, stepped in one batched call."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from persim_gym.envs.row import RowView
from persim_gym.envs.vector import BatchedVectorEnv
from persim_gym.extras import brought_by

with brought_by("sb3", "a VecEnv needs Stable-Baselines3"):
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices


class BatchedVecEnv(VecEnv):
    """A `BatchedVectorEnv` as Stable-Baselines3 wants it: rows reset in the step that ends their episode.

    Seeds, options, attributes and methods go by index as in Stable-Baselines3's DummyVecEnv. Rows share one random
    stream after their first episode, and cannot be stepped one by one.

    Attributes:
        batched: The vector environment underneath.
    """

    def __init__(self, batched: BatchedVectorEnv) -> None:
        """Wraps an environment in SAME_STEP autoreset mode.

        Raises:
            ValueError: If it resets in another mode.
        """
        if batched.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(f"autoreset mode is {batched.autoreset_mode}; Stable-Baselines3 needs SAME_STEP")
        self.batched = batched
        self._rows = [RowView(batched, row) for row in range(batched.num_envs)]
        super().__init__(batched.num_envs, batched.single_observation_space, batched.single_action_space)
        self.metadata = batched.metadata
        self._actions: NDArray[Any] | None = None

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode in every row, under the seeds of `seed()` if it was called since the last reset."""
        seeds = self._seeds if any(s is not None for s in self._seeds) else None
        obs, batch = self.batched.reset(seed=seeds)
        for row, options in enumerate(self._options):
            if options:
                obs[row], _ = self._rows[row].reset(seed=self._seeds[row], options=options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = _row_infos(batch, self.num_envs)
        return obs

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keeps the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Steps every row.

        Returns:
            Observations [B, D], rewards [B], whether an episode ended [B], and an info a row; that of a finished row
            holds `terminal_observation`, and every one `TimeLimit.truncated`.
        """
        assert self._actions is not None, "call step_async() first"
        obs, reward, terminated, truncated, batch = self.batched.step(self._actions)
        done = terminated | truncated
        infos = _row_infos({**batch, "TimeLimit.truncated": truncated & ~terminated}, self.num_envs)
        for row in np.flatnonzero(done):
            last = {name: v[row].item() for name, v in batch["final_info"].items() if not name.startswith("_")}
            infos[row].update(last, terminal_observation=batch["final_obs"][row])
        return obs, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Closes the environment underneath."""
        self.batched.close()

    def get_images(self) -> list[Any]:
        """One image a row in rgb_array mode."""
        images = self.batched.render()
        return [None] * self.num_envs if images is None else list(images)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of each row: its own where it has one, as its agent, else that of the environment."""
        return [getattr(self._rows[row], attr_name) for row in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of each row; what the rows were made with, as their agents, is not changed by it."""
        for row in self._get_indices(indices):
            setattr(self._rows[row], attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method of each row, see `RowView`.

        Raises:
            AttributeError: If rows have no such method, or it would reach all rows at once.
        """
        return [getattr(self._rows[row], method_name)(*args, **kwargs) for row in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for every row: wrappers of single environments do not apply."""
        return [False for _ in self._get_indices(indices)]


def _row_infos(batch: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """One info a row, of Python's own types."""
    names = [name for name in batch if not name.startswith(("_", "final_"))]
    if not names:
        return [{} for _ in range(rows)]
    columns = [batch[name].tolist() for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def make_vec_env(
    env_id: str = "PersimEnv-v0",
    *,
    n_envs: int = 1,
    agent: int | str | None = None,
    agents: Sequence[int | str] | None = None,
    seed: int | None = None,
    wrapper: Callable[[VecEnv], VecEnv] | None = None,
    **kwargs: Any,
) -> VecEnv:
    """A native, batched Stable-Baselines3 environment over a learned simulator or a true environment.

    Args:
        env_id: "PersimEnv-v0" or the id of a true environment.
        n_envs: Number of rows B.
        agent: Number or, in a simulator, name of the agent of all rows.
        agents: Agent of each row, [B], instead of `agent`.
        seed: Seed of the first reset.
        wrapper: Wraps the result, e.g. `VecMonitor`.
        **kwargs: Further keywords of the environment: `simulator`, `member`, `penalty`, `halt`, `factor`; covariates.

    Raises:
        ValueError: If both `agent` and `agents` are given, or as the environment.
    """
    if agent is not None and agents is not None:
        raise ValueError(f"agent={agent} and agents={agents} both say which agents; give one of them")
    if agent is not None:
        agents = [agent] * n_envs
    given: dict[str, Any] = {**kwargs, **({} if agents is None else {"agents": list(agents)})}
    batched: Any = gym.make_vec(
        f"persim_gym:{env_id.removeprefix('persim_gym:')}",
        num_envs=n_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=AutoresetMode.SAME_STEP.value,  # Plain, as all that a specification holds.
        **given,
    )
    env: VecEnv = BatchedVecEnv(batched)
    if seed is not None:
        env.seed(seed)
    return env if wrapper is None else wrapper(env)
