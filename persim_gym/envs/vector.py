"""Vector environments that step all rows in one batched call: time limit, autoreset and bookkeeping."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from persim_gym.actions import ActionSpace
from persim_gym.envs.domain import Domain, Renderer
from persim_gym.envs.spaces import checked_actions, own_space
from persim_gym.envs.specification import plain_spec

NO_LIMIT = -1
"""What Gymnasium calls no time limit."""


class Advance(NamedTuple):
    """What one batched step brought, before time limit and autoreset.

    Attributes:
        reward: [B].
        terminated: bool [B].
        truncated: bool [B], for other reasons than the time limit.
        info: Arrays [B] by name.
    """

    reward: NDArray[Any]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    info: dict[str, NDArray[Any]]


class BatchedVectorEnv(VectorEnv[NDArray[np.float32], NDArray[Any], NDArray[Any]], ABC):
    """Time limit, autoreset and seeding over rows that one function call advances together.

    Subclasses say how rows restart, advance and are observed. All three autoreset modes of Gymnasium are supported.
    """

    def __init__(
        self,
        num_envs: int,
        observation_space: spaces.Box,
        action_space: ActionSpace,
        max_episode_steps: int,
        autoreset_mode: AutoresetMode | str,
    ) -> None:
        """Sets spaces and counters.

        Args:
            num_envs: Number of rows B, at least 1.
            observation_space: Of one row.
            action_space: Of one row.
            max_episode_steps: Steps until truncation; -1 for no limit.
            autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED.

        Raises:
            ValueError: If there are no rows, or no steps.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs={num_envs}; a vector environment needs at least one row")
        if max_episode_steps < 1 and max_episode_steps != NO_LIMIT:
            raise ValueError(f"max_episode_steps={max_episode_steps} must be positive, or {NO_LIMIT} for no time limit")
        self.num_envs = num_envs
        self.single_observation_space = own_space(observation_space)
        self.single_action_space = own_space(action_space)
        self.observation_space = own_space(batch_space(self.single_observation_space, num_envs))
        self.action_space = own_space(batch_space(self.single_action_space, num_envs))
        self.max_episode_steps = None if max_episode_steps == NO_LIMIT else int(max_episode_steps)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self._steps = np.zeros(num_envs, dtype=np.int64)
        self._done = np.ones(num_envs, dtype=np.bool_)
        self._started = False

    # Gymnasium closes and shows environments too whose making has failed.
    _renderers: Sequence[Renderer] = ()
    _spec: EnvSpec | None = None

    @abstractmethod
    def _restart(self, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None) -> None:
        """Puts `rows` into initial states; drawn by `self.np_random`, or row by row by `rngs` where given."""

    @abstractmethod
    def _advance(self, actions: NDArray[Any]) -> Advance:
        """Steps all rows."""

    @abstractmethod
    def _start_info(self) -> dict[str, NDArray[Any]]:
        """The names of `Advance.info` as rows have them that were just reset, [B]."""

    @abstractmethod
    def _observation(self) -> NDArray[np.float32]:
        """Observations of all rows, [B, D]; a fresh array."""

    @abstractmethod
    def _place(self, row: int, options: dict[str, Any]) -> None:
        """Puts one row where the single environment's `options` want it."""

    @abstractmethod
    def _renderer(self, row: int) -> Renderer:
        """A new renderer of one row."""

    @abstractmethod
    def _drawn_states(self) -> NDArray[np.float64]:
        """Full physical states of all rows, [B, S], as they are drawn."""

    @property
    def spec(self) -> EnvSpec | None:
        """What `gymnasium.make_vec` made it of, with the time limit that it has."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        limit = self.max_episode_steps
        self._spec = None
        if spec is not None:
            self._spec = plain_spec(spec, max_episode_steps=NO_LIMIT if limit is None else limit)
            self._spec.max_episode_steps = limit

    @abstractmethod
    def row_attributes(self, row: int) -> dict[str, Any]:
        """What belongs to one row alone, by name."""

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in every row, or in those of `options["reset_mask"]` (bool [B]).

        Args:
            seed: An int seeds one stream for all rows. A list holds one seed a row, with which the row starts as the
                single environment under that seed; later episodes come from the first row's stream.
            options: May hold `reset_mask`, as Gymnasium's DISABLED autoreset mode wants it.
        """
        options = dict(options or {})
        mask = np.asarray(options.pop("reset_mask", np.ones(self.num_envs, dtype=np.bool_)), dtype=np.bool_)
        if options:
            raise ValueError(f"reset knows no option {', '.join(sorted(options))}; known: reset_mask")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"reset_mask has shape {mask.shape}, expected ({self.num_envs},)")
        rngs = None
        if isinstance(seed, int | np.integer):
            self._np_random, self._np_random_seed = seeding.np_random(int(seed))
        elif seed is not None:
            if len(seed) != self.num_envs:
                raise ValueError(f"{len(seed)} seeds for {self.num_envs} rows; give one seed, or one a row")
            streams = [seeding.np_random(s) for s in seed]
            rngs = [rng for rng, _ in streams]
            # The stream goes on where the first row's first episode left it.
            self._np_random, self._np_random_seed = streams[0]
        rows = np.flatnonzero(mask)
        self._restart(rows, None if rngs is None else [rngs[i] for i in rows])
        self._steps[mask] = 0
        self._done[mask] = False
        self._started = True
        return self._observation(), _with_masks(self._start_info(), mask)

    def reset_row(
        self, row: int, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Starts an episode in one row; arguments and result as the single environment's `reset`."""
        self._restart(np.array([row]), None if seed is None else [seeding.np_random(seed)[0]])
        self._place(row, options or {})
        self._steps[row], self._done[row] = 0, False
        return self._observation()[row], {name: values[row].item() for name, values in self._start_info().items()}

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Steps every row; finished rows reset as the autoreset mode says."""
        if not self._started:
            raise ValueError("call reset() before step()")
        actions = checked_actions(self.single_action_space, actions, (self.num_envs,))
        resting = self._done
        if self.autoreset_mode is AutoresetMode.DISABLED and resting.any():
            raise ValueError(
                f"rows {np.flatnonzero(resting).tolist()} have finished; reset them with "
                'reset(options={"reset_mask": mask}) first'
            )
        reward, terminated, truncated, info = self._advance(actions)
        self._steps += 1
        if self.max_episode_steps is not None:
            truncated = truncated | (self._steps >= self.max_episode_steps)
        if resting.any():  # NEXT_STEP: this call is their reset, the action is ignored
            self._restart_rows(resting)
            info = _with_rows(info, resting, self._start_info())
            reward = np.where(resting, 0.0, reward)
            terminated = terminated & ~resting
            truncated = truncated & ~resting
        done = terminated | truncated
        final: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and done.any():
            final_obs, last = np.full(self.num_envs, None, dtype=object), self._observation()
            for row in np.flatnonzero(done):
                final_obs[row] = last[row]
            start = self._start_info()
            final_info = _with_masks(_with_rows(start, done, info), done)
            final = {"final_obs": final_obs, "_final_obs": done, "final_info": final_info, "_final_info": done}
            info = _with_rows(info, done, start)
            self._restart_rows(done)
            self._done = np.zeros_like(done)
        else:
            self._done = done
        infos = {**_with_masks(info, np.ones(self.num_envs, dtype=np.bool_)), **final}
        return self._observation(), reward, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Draws every row: B images in rgb_array mode."""
        if self.render_mode is None:
            return None
        if not self._renderers:
            self._renderers = [self._renderer(row) for row in range(self.num_envs)]
        return tuple(r.render(s) for r, s in zip(self._renderers, self._drawn_states(), strict=True))

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the renderers."""
        for renderer in self._renderers:
            renderer.close()
        self._renderers = ()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the renderers, which a copy makes anew."""
        return {**self.__dict__, "_renderers": ()}

    def _draw_states(
        self, domain: Domain, rows: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None
    ) -> NDArray[np.float64]:
        """Initial states of `rows`, [rows, S], from this environment's stream, or row by row from `rngs`."""
        if rngs is None:
            return domain.initial_state(self.np_random, len(rows))
        return np.concatenate([domain.initial_state(rng, 1) for rng in rngs])

    def _restart_rows(self, mask: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(mask)
        self._restart(rows, None)
        self._steps[rows] = 0


def _with_rows(
    info: dict[str, NDArray[Any]], mask: NDArray[np.bool_], other: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """A copy of `info`, in which the rows of `mask` are those of `other`."""
    rows, mixed = np.flatnonzero(mask), {name: values.copy() for name, values in info.items()}
    for name, values in mixed.items():
        values[rows] = other[name][rows]
    return mixed


def _with_masks(info: dict[str, NDArray[Any]], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Each name beside the mask of the rows that have it, as Gymnasium's vector environments tell it."""
    return {**info, **{f"_{name}": mask.copy() for name in info}}
