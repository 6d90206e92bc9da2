"""What the spaces and episodes of any Minari dataset are to a simulator: flat arrays, and an agent an episode."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space
from minari import MinariDataset
from numpy.typing import NDArray

from persim_gym.datasets.registry import find_dataset
from persim_gym.spec import EnvironmentSpec, flat_box

_SPARSE, _FEW = 100, 10_000  # A population may leave out so many numbers an agent, and so many more.
_LOST = 0.1  # An observation whose changes lose more than this share in float32 is warned of.
_SLACK = 1e-5  # Observations at their bounds may be rounded past them by so much.


def spec_of_dataset(dataset: MinariDataset) -> EnvironmentSpec:
    """Spaces of a dataset, and as time limit that of its environment or else the longest episode."""
    action = dataset.action_space
    if isinstance(action, spaces.Box):
        action = flat_box(action.low, action.high)
    flat = flatten_space(dataset.observation_space)
    assert isinstance(flat, spaces.Box)
    steps = dataset.env_spec.max_episode_steps if dataset.env_spec is not None else None
    lengths = (m["total_steps"] for m in dataset.storage.get_episode_metadata(dataset.episode_indices))
    return EnvironmentSpec(flat_box(flat.low, flat.high), action, int(steps or max(lengths)))


def check_spaces(dataset: MinariDataset) -> None:
    """Checks that a simulator can serve a dataset's spaces.

    Raises:
        ValueError: If it cannot.
    """
    name = dataset.spec.dataset_id
    if not isinstance(flatten_space(dataset.observation_space), spaces.Box):
        raise ValueError(f"{name}: observations must be of a fixed size, not {dataset.observation_space}")
    if _has_images(dataset.observation_space):
        raise ValueError(
            f"{name}: observations hold images, {dataset.observation_space}; a simulator predicts vectors; write "
            "the dataset with features of the images in their place"
        )
    if not isinstance(dataset.action_space, spaces.Discrete | spaces.Box):
        raise ValueError(f"{name}: actions must be Discrete or a Box, not {dataset.action_space}")
    try:
        spec_of_dataset(dataset)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _has_images(space: spaces.Space[Any]) -> bool:
    """Whether a space, or a part of it, is of bytes in two dimensions or more."""
    if isinstance(space, spaces.Dict):
        return any(map(_has_images, space.spaces.values()))
    if isinstance(space, spaces.Tuple):
        return any(map(_has_images, space.spaces))
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) > 1


def agents_of(dataset: MinariDataset) -> list[int]:
    """Agent of each episode.

    Raises:
        ValueError: If one names none, or the numbers are not fit for a population.
    """
    name, agents = dataset.spec.dataset_id, []
    every = dataset.storage.get_episode_metadata(dataset.episode_indices)
    for index, metadata in zip(dataset.episode_indices, every, strict=True):
        agent = metadata.get("agent", metadata.get("options", {}).get("agent"))
        if agent is None:
            raise ValueError(
                f"{name}: episode {index} names no agent; write it with "
                'dataset.storage.update_episode_metadata([{"agent": n}, ...])'
            )
        agents.append(_whole(agent))
        if agents[-1] < 0:
            raise ValueError(f"{name}: agent {agent!r} of episode {index} is no whole number; number them from 0")
    different, size = len(set(agents)), max(agents, default=0) + 1
    if size > _SPARSE * different + _FEW:
        raise ValueError(
            f"{name}: its {different} agents go up to number {size - 1:,}, and a simulator keeps a factor for every "
            "number below it; number them from 0 without gaps"
        )
    return agents


def _whole(agent: Any) -> int:
    """The number that an agent is named by, or -1 where it is none."""
    try:
        number = int(agent)
    except (TypeError, ValueError, OverflowError):
        return -1
    return number if isinstance(agent, str) or number == agent else -1


class FlatEpisode:
    """An episode with flat observations and actions; Minari's own is read-only."""

    def __init__(self, episode: Any, dataset: MinariDataset) -> None:
        """Flattens an episode of a dataset."""
        self.observations = flat_rows(dataset.observation_space, episode.observations)
        actions = np.asarray(episode.actions)
        continuous = isinstance(dataset.action_space, spaces.Box)
        self.actions = actions.reshape(len(actions), -1).astype(np.float32) if continuous else actions
        self.rewards, self.terminations = episode.rewards, episode.terminations


def flat_episodes(dataset: MinariDataset) -> Iterator[FlatEpisode]:
    """Flat episodes, checked against the dataset's spaces where it is not one of ours.

    Raises:
        ValueError: If an observation or action is outside of its space.
    """
    theirs = None if find_dataset(dataset.spec.dataset_id) else spec_of_dataset(dataset)
    lost = squares = np.zeros(1)
    for number, recorded in enumerate(dataset.iterate_episodes()):
        episode = FlatEpisode(recorded, dataset)
        if theirs is not None:
            _check_inside(dataset, number, episode, theirs)
        with np.errstate(over="ignore", invalid="ignore"):  # The caller refuses what is not finite.
            change = np.diff(episode.observations.astype(np.float64), axis=0)
            rounding = np.diff(episode.observations.astype(np.float32).astype(np.float64), axis=0) - change
            lost, squares = lost + np.square(rounding).sum(axis=0), squares + np.square(change).sum(axis=0)
        yield episode
    for d in np.flatnonzero(lost > _LOST**2 * squares):
        warnings.warn(
            f"{dataset.spec.dataset_id}: observation {d} changes by less than float32 resolves at its size, and cannot "
            "be learned; subtract a constant from it, as the first time stamp from the others",
            stacklevel=2,
        )


def flat_rows(space: spaces.Space[Any], rows: Any) -> NDArray[Any]:
    """Rows [T, ...] of a space as Gymnasium flattens each one, [T, D]."""
    if isinstance(space, spaces.Box):
        values: NDArray[Any] = np.asarray(rows)
        return values.reshape(len(values), -1)
    if isinstance(space, spaces.Dict):
        return np.concatenate([flat_rows(part, rows[key]) for key, part in space.spaces.items()], axis=1)
    if isinstance(space, spaces.Tuple):
        return np.concatenate([flat_rows(part, rows[i]) for i, part in enumerate(space.spaces)], axis=1)
    return np.stack([np.asarray(spaces.utils.flatten(space, row)) for row in rows])


def _check_inside(dataset: MinariDataset, number: int, episode: "FlatEpisode", interface: EnvironmentSpec) -> None:
    """Checks that an episode's observations and actions are of the dataset's own spaces.

    Raises:
        ValueError: If they are not: predictions are clipped to the observation space, and actions are indices.
    """
    name = f"{dataset.spec.dataset_id}: episode {dataset.episode_indices[number]}"
    actions = episode.actions
    _check_box(name, "observation", episode.observations, interface.observation_space, " (infinite where unknown)")
    if isinstance(interface.action_space, spaces.Box):
        _check_box(name, "action", actions, interface.action_space, ", or clip the actions to it as the system did")
    if interface.n_actions and len(actions) and not 0 <= actions.min() <= actions.max() < interface.n_actions:
        raise ValueError(
            f"{name} has actions {actions.min()} to {actions.max()}, outside of {dataset.action_space}; write the "
            "dataset with the right action_space"
        )


def _check_box(name: str, kind: str, rows: NDArray[Any], space: spaces.Box, advice: str) -> None:
    """Checks that rows [T, D] lie in a flat Box, but for rounding."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    below, above = (b + sign * _SLACK * np.maximum(1, np.abs(b)) for b, sign in ((low, -1), (high, 1)))
    outside = ((rows < below) | (rows > above)).any(axis=0)
    if outside.any():
        d = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"{name} has {kind}s {d} from {rows[:, d].min():g} to {rows[:, d].max():g}, outside of its space, "
            f"{low[d]:g} to {high[d]:g}; write the dataset with a wider {kind}_space{advice}"
        )
