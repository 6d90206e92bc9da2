"""Stable-Baselines3 vector environments over the package's own, stepped in one batched call."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from persim_gym.envs.vector import BatchedVectorEnv


class BatchedVecEnv(VecEnv):
    """A `BatchedVectorEnv` as Stable-Baselines3 wants it: rows reset in the step that ends their episode.

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
        super().__init__(batched.num_envs, batched.single_observation_space, batched.single_action_space)
        self._actions: NDArray[Any] | None = None

    def reset(self) -> NDArray[np.float32]:
        """Starts an episode in every row, under the seeds of `seed()` if it was called since the last reset."""
        seeds = self._seeds if any(s is not None for s in self._seeds) else None
        obs, _ = self.batched.reset(seed=seeds)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [{} for _ in range(self.num_envs)]
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
        values = {name: batch[name] for name in batch if not name.startswith(("_", "final_"))}
        cut_off = truncated & ~terminated
        infos: list[dict[str, Any]] = [
            {**{name: column[row] for name, column in values.items()}, "TimeLimit.truncated": bool(cut_off[row])}
            for row in range(self.num_envs)
        ]
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = batch["final_obs"][row]
        return obs, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Closes the environment underneath."""
        self.batched.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute once a row: all rows share one object."""
        return [getattr(self.batched, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of all rows.

        Raises:
            ValueError: If `indices` leaves rows out, which one shared object cannot.
        """
        self._all_rows("set_attr", indices)
        setattr(self.batched, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Calls a method once for all rows; its result is given once a row.

        Raises:
            ValueError: If `indices` leaves rows out, which one shared object cannot.
        """
        rows = self._all_rows("env_method", indices)
        result = getattr(self.batched, method_name)(*args, **kwargs)
        return [result for _ in range(rows)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for every row: wrappers of single environments do not apply."""
        return [False for _ in self._get_indices(indices)]

    def _all_rows(self, what: str, indices: VecEnvIndices) -> int:
        rows = list(self._get_indices(indices))
        if sorted(rows) != list(range(self.num_envs)):
            raise ValueError(f"{what} reaches all {self.num_envs} rows or none; leave indices out")
        return len(rows)


def make_vec_env(
    env_id: str = "PersimEnv-v0",
    *,
    n_envs: int = 1,
    agent: int | None = None,
    agents: Sequence[int] | None = None,
    seed: int | None = None,
    wrapper: Callable[[VecEnv], VecEnv] | None = None,
    **kwargs: Any,
) -> VecEnv:
    """A native, batched Stable-Baselines3 environment over a learned simulator or a true environment.

    Args:
        env_id: "PersimEnv-v0" or the id of a true environment.
        n_envs: Number of rows B.
        agent: Agent of all rows.
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
        autoreset_mode=AutoresetMode.SAME_STEP,
        **given,
    )
    env: VecEnv = BatchedVecEnv(batched)
    if seed is not None:
        env.seed(seed)
    return env if wrapper is None else wrapper(env)
