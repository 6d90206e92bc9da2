"""How PersimEnv-v0 is registered: with the time limit of the simulator that an environment is made of."""

import threading
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

from gymnasium.envs.registration import EnvSpec


@dataclass(frozen=True, eq=False)
class _Made:
    """An environment that was made.

    Attributes:
        limit: Time limit of its simulator.
    """

    limit: int


class _Latest(threading.local):
    """What each thread made last."""

    made: _Made | None = None


_LATEST = _Latest()


def note_limit(limit: int) -> None:
    """Says that an environment was made, of a simulator with this time limit."""
    _LATEST.made = _Made(limit)


class SimulatorSpec(EnvSpec):
    """A specification whose time limit is that of the simulator which an environment was made of last.

    `gymnasium.make` asks for the limit right after it made the environment, and only where the caller gave none; it
    then wraps the environment in its own `TimeLimit`. `gymnasium.make_vec` does so with a copy; where it makes a vector
    environment instead, it asks before, and the copy knows of none. What environments show as theirs is plain.
    """

    _is_copy = False
    _made_before: _Made | None = None

    @property
    def max_episode_steps(self) -> int | None:
        """Time limit."""
        made = _LATEST.made
        if self._given is not None or made is None or made is self._made_before:
            return self._given
        return made.limit

    @max_episode_steps.setter
    def max_episode_steps(self, given: int | None) -> None:
        self._given = given

    def __deepcopy__(self, memo: dict[int, Any]) -> EnvSpec:
        """A copy that makes environments; the copy of a copy is plain."""
        values = {f.name: deepcopy(getattr(self, f.name), memo) for f in fields(self) if f.init}
        if self._is_copy:
            return EnvSpec(**values)
        copy = SimulatorSpec(**values | {"max_episode_steps": self._given})
        copy._is_copy, copy._made_before = True, _LATEST.made
        return copy
