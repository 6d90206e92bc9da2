"""What environments show as their specification: keywords as JSON has them, whatever the caller gave."""

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from os import PathLike, fspath
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec


class PlainSpecification:
    """An environment whose specification can be written, however its maker named agents and covariates."""

    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """What `gymnasium.make` made it of."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = None if spec is None else plain_spec(spec)


def plain_spec(spec: EnvSpec, **more: Any) -> EnvSpec:
    """A specification with plain keywords, and further ones."""
    return replace(spec, kwargs=_plain({**spec.kwargs, **more}))


def _plain(value: Any) -> Any:
    """NumPy's scalars and arrays, ranges and tuples as Python's own numbers and lists; members of enums; paths."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, list | tuple | range):
        return [_plain(part) for part in value]
    return value
