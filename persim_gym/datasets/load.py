"""Loads Minari datasets as flat transitions, in memory or, where they are larger, on disk."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import minari
import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten_space
from minari import MinariDataset
from numpy.typing import NDArray

from persim_gym.datasets.collect import build
from persim_gym.datasets.recipes import RECIPES, find_recipe
from persim_gym.home import persim_home
from persim_gym.simulator.interface import Interface, box
from persim_gym.simulator.transition_file import TransitionFile, matches, write_transitions
from persim_gym.transitions import Transitions


def load_minari(dataset: MinariDataset) -> Transitions:
    """Reads any Minari dataset whose episode metadata name the agent.

    Args:
        dataset: Observations are flattened as Gymnasium flattens their space; actions must be Discrete or a Box; every
            episode's metadata must hold `agent`, a whole number, at the top or in `options`.

    Raises:
        ValueError: If a space is of another kind, an episode has no agent, values are not finite, or the content does
            not match the recorded hash.
    """
    name = dataset.spec.dataset_id
    check_spaces(dataset)
    agents = _agents(dataset)
    transitions = Transitions.from_episodes(_flat_episodes(dataset), agents, name)
    recorded = dataset.storage.metadata.get("content_hash")
    if recorded is not None and len(agents) == dataset.storage.total_episodes:
        if transitions.content_hash() != recorded:
            raise ValueError(f"{name}: the content does not match its recorded hash; delete the dataset and rebuild it")
    return transitions


def load(dataset_id: str, progress: bool = True) -> Transitions:
    """Loads a dataset from Minari's folder; builds it first when it is one of ours and missing.

    Args:
        dataset_id: Minari id such as `persim/mountaincar/random-v0`, or that of any local dataset with agents.
        progress: Whether a build shows a progress bar.

    Raises:
        MissingPolicyError: If it would have to be built by a logging policy that has not been trained.
        ValueError: If it neither exists nor has a recipe, or as `load_minari`.
    """
    return load_minari(open_dataset(dataset_id, progress))


def open_dataset(dataset_id: str, progress: bool = True) -> MinariDataset:
    """A dataset as Minari opens it, built first when it is one of ours and missing; errors as `load`."""
    recipe = find_recipe(dataset_id)
    if recipe is not None:
        build(recipe, progress=progress)
    elif dataset_id not in minari.list_local_datasets():
        raise ValueError(
            f"no dataset {dataset_id!r} among Minari's local datasets, and no recipe for it; can be built: "
            f"{', '.join(RECIPES)}"
        )
    return minari.load_dataset(dataset_id)


def load_file(dataset: MinariDataset) -> TransitionFile:
    """A dataset as a file that is read in parts; written once, episode by episode, under $PERSIM_HOME.

    Raises:
        ValueError: As `load_minari`.
    """
    name = dataset.spec.dataset_id
    check_spaces(dataset)
    agents = _agents(dataset)
    stamp = _stamp(dataset)
    folder = persim_home() / "transitions" / f"{name.replace('/', '-')}-{stamp[:12]}"
    if matches(folder, stamp):
        return TransitionFile(folder)
    pieces = (
        Transitions.from_episodes([episode], [agent], name, n_agents=max(agents) + 1)
        for episode, agent in zip(_flat_episodes(dataset), agents, strict=True)
    )
    return write_transitions(folder, pieces, n_agents=max(agents) + 1, source=name, stamp=stamp)


def load_for_training(dataset: MinariDataset, memory: float | None = None) -> Transitions | TransitionFile:
    """The dataset in memory where its training fits into `memory` bytes, else on disk.

    Args:
        dataset: The dataset.
        memory: Bytes; None for half of the machine's memory.
    """
    if memory is None:
        memory = 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4e9
    return load_minari(dataset) if training_bytes(dataset) <= memory else load_file(dataset)


def training_bytes(dataset: MinariDataset) -> float:
    """Memory that training on a dataset takes, about: transitions, their scaled copy and five shuffled orders."""
    width = (flatten_space(dataset.observation_space).shape or (1,))[0]
    actions = int(np.prod(dataset.action_space.shape or (1,)))
    row = 8 + 8 + 8 + 4 * actions + 4 + 1 + 8 * width  # as `Transitions` keeps it
    return float(dataset.total_steps) * (row + 4 * (2 + actions + 3 * width) + 5 * 8)


def interface_of_dataset(dataset: MinariDataset) -> Interface:
    """Spaces of a dataset, and as time limit that of its environment or else the longest episode."""
    action = dataset.action_space
    if isinstance(action, spaces.Box):
        action = box(action.low, action.high)
    flat = flatten_space(dataset.observation_space)
    assert isinstance(flat, spaces.Box)
    steps = dataset.env_spec.max_episode_steps if dataset.env_spec is not None else None
    lengths = (m["total_steps"] for m in dataset.storage.get_episode_metadata(dataset.episode_indices))
    return Interface(box(flat.low, flat.high), action, int(steps or max(lengths)))


def check_spaces(dataset: MinariDataset) -> None:
    """Checks that a simulator can serve a dataset's spaces.

    Raises:
        ValueError: If it cannot.
    """
    name = dataset.spec.dataset_id
    if not isinstance(flatten_space(dataset.observation_space), spaces.Box):
        raise ValueError(f"{name}: observations must be of a fixed size, not {dataset.observation_space}")
    if not isinstance(dataset.action_space, spaces.Discrete | spaces.Box):
        raise ValueError(f"{name}: actions must be Discrete or a Box, not {dataset.action_space}")
    try:
        interface_of_dataset(dataset)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _agents(dataset: MinariDataset) -> list[int]:
    """Agent of each episode."""
    name, agents = dataset.spec.dataset_id, []
    every = dataset.storage.get_episode_metadata(dataset.episode_indices)
    for index, metadata in zip(dataset.episode_indices, every, strict=True):
        agent = metadata.get("agent", metadata.get("options", {}).get("agent"))
        if agent is None:
            raise ValueError(
                f"{name}: episode {index} names no agent; write it with "
                'dataset.storage.update_episode_metadata([{"agent": n}, ...])'
            )
        try:
            agents.append(int(agent))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}: agent {agent!r} of episode {index} is no whole number; number them from 0"
            ) from error
    return agents


class _FlatEpisode:
    """An episode with flat observations and actions; Minari's own is read-only."""

    def __init__(self, episode: Any, dataset: MinariDataset) -> None:
        self.observations = flat_rows(dataset.observation_space, episode.observations)
        actions = np.asarray(episode.actions)
        continuous = isinstance(dataset.action_space, spaces.Box)
        self.actions = actions.reshape(len(actions), -1).astype(np.float32) if continuous else actions
        self.rewards, self.terminations = episode.rewards, episode.terminations


def _flat_episodes(dataset: MinariDataset) -> Iterator[_FlatEpisode]:
    return (_FlatEpisode(episode, dataset) for episode in dataset.iterate_episodes())


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


def _stamp(dataset: MinariDataset) -> str:
    """Changes when the dataset's files or the chosen episodes do."""
    digest = hashlib.sha256(np.asarray(dataset.episode_indices, dtype=np.int64).tobytes())
    for path in sorted(p for p in dataset.storage.data_path.rglob("*") if p.is_file()):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()
