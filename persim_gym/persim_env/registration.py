"""How PersimEnv-v0 is registered: with the time limit of the simulator that an environment is made of."""

import threading
from copy import deepcopy
from dataclasses import fields
from typing import Any

from gymnasium.envs.registration import EnvSpec


class SimulatorLimit(int):
    """A simulator's own time limit; one that a caller gives is a plain int."""


class _Latest(threading.local):
    """What each thread made last."""

    limit: SimulatorLimit | None = None


_LATEST = _Latest()


def note_limit(steps: int) -> None:
    """Says that an environment was made, of a simulator with this time limit."""
    _LATEST.limit = SimulatorLimit(steps)


class SimulatorSpec(EnvSpec):
    """A specification whose time limit is that of the simulator which an environment was made of last.

    `gymnasium.make` asks for the limit right after it made the environment, and only of a caller that gave none; it
    then wraps the environment in its own `TimeLimit`. What an environment shows as its `spec` is a plain `EnvSpec`.
    """

    _is_copy = False

    @property
    def max_episode_steps(self) -> int | None:
        """Time limit."""
        return _LATEST.limit if self._given is None else self._given

    @max_episode_steps.setter
    def max_episode_steps(self, given: int | None) -> None:
        self._given = given

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvSpec:
        """A copy, of which `gymnasium.make_vec` makes environments; the copy of that, which they show, is plain."""
        values = {f.name: deepcopy(getattr(self, f.name), memo) for f in fields(self) if f.init}
        if self._is_copy:
            return EnvSpec(**values)
        copy = SimulatorSpec(**values | {"max_episode_steps": self._given})
        copy._is_copy = True
        return copy
