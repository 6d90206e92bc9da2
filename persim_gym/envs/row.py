"""One row of a batched environment, looked at as if it were an environment of its own."""

from functools import cached_property
from typing import Any

from gymnasium import spaces

from persim_gym.envs.spaces import own_space
from persim_gym.envs.vector import BatchedVectorEnv


class RowView:
    """What Stable-Baselines3's `get_attr`, `set_attr` and `env_method` reach of one row.

    Attributes are those set on this row, then the row's own values (its spaces, agent, covariates), then the batched
    environment's. `reset` and `render` concern this row alone; a row cannot be stepped without the others.
    """

    def __init__(self, batched: BatchedVectorEnv, index: int) -> None:
        """Looks at row `index`."""
        self._batched, self._index = batched, index

    def __getattr__(self, name: str) -> Any:
        """An attribute that was not set on this row.

        Raises:
            AttributeError: If neither row nor batch has it, or it is a method that would reach all rows.
        """
        if name.startswith("__") or name in ("_batched", "_index"):
            raise AttributeError(name)
        own = self._batched.row_attributes(self._index)
        if name in own:
            return own[name]
        value = getattr(self._batched, name)
        if callable(value) and hasattr(type(self._batched), name):
            raise AttributeError(
                f"{name} reaches all {self._batched.num_envs} rows: call it on the batched environment"
            )
        return value

    @cached_property
    def observation_space(self) -> spaces.Space[Any]:
        """Space of one observation, of this row alone."""
        return own_space(self._batched.single_observation_space)

    @cached_property
    def action_space(self) -> spaces.Space[Any]:
        """Space of one action, of this row alone."""
        return own_space(self._batched.single_action_space)

    @property
    def unwrapped(self) -> "RowView":
        """This row."""
        return self

    def get_wrapper_attr(self, name: str) -> Any:
        """The attribute `name`."""
        return getattr(self, name)

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether there is an attribute `name`."""
        return hasattr(self, name)

    def set_wrapper_attr(self, name: str, value: Any, *, force: bool = True) -> bool:
        """Sets an attribute of this row, a new one only with `force`; returns whether it did."""
        known = force or hasattr(self, name)
        if known:
            setattr(self, name, value)
        return known

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in this row, as the single environment does; without a seed, from the batch's stream."""
        return self._batched.reset_row(self._index, seed, options)

    def render(self) -> Any:
        """Draws this row."""
        images = self._batched.render()
        return None if images is None else images[self._index]
