"""Loads Minari datasets as flat transitions, in memory or, where they are larger, on disk."""

import hashlib
import os
from collections.abc import Iterator

import numpy as np
from gymnasium.spaces.utils import flatten_space
from minari import MinariDataset

from persim_gym.datasets.collect import build
from persim_gym.datasets.minari_adapter import FlatEpisode, agents_of, check_spaces, flat_episodes, may_lack_values
from persim_gym.datasets.minari_files import dataset_folder, local_datasets, open_minari
from persim_gym.datasets.registry import DATASETS, find_dataset, similar_datasets
from persim_gym.logged_arrays import known_inputs
from persim_gym.paths import persim_home
from persim_gym.spec import EnvironmentSpec
from persim_gym.transition_store import TransitionStore, matches, write_transitions
from persim_gym.transitions import Transitions


def load_minari(dataset: MinariDataset, spec: EnvironmentSpec | None = None) -> Transitions:
    """Reads any Minari dataset whose episodes name their agent.

    Transitions whose observation or action is not known are left out, where the metadata say that values may be missing
    (`persim_gym.datasets.minari_adapter.MISSING`).

    Args:
        dataset: Observations are flattened as Gymnasium flattens their space; actions must be Discrete or a Box; every
            episode's metadata must hold `agent`, a whole number, at the top or in `options`, or else the `infos` of
            its steps.
        spec: Its layout widens observations by their past; None to leave them.

    Raises:
        ValueError: If a space is of another kind, an episode has no agent, its arrays do not fit together or their
            space, values are not finite, or the content does not match the recorded hash.
    """
    name = dataset.spec.dataset_id
    check_spaces(dataset)
    agents, missing = agents_of(dataset), may_lack_values(dataset)
    transitions = Transitions.from_episodes(_episodes(dataset, spec), agents, name, missing=missing)
    recorded = dataset.storage.metadata.get("content_hash")
    if recorded is not None and len(agents) == dataset.storage.total_episodes:
        if transitions.content_hash() != recorded:
            raise ValueError(f"{name}: the content does not match its recorded hash; delete the dataset and rebuild it")
    return transitions if missing or spec is None else spec.layout.widened(transitions, spec.n_actions)


def _episodes(dataset: MinariDataset, spec: EnvironmentSpec | None) -> Iterator[FlatEpisode]:
    """Flat episodes; where values may be missing, with their past: what is left out is a part of that."""
    layout = None if spec is None or not may_lack_values(dataset) else spec.layout
    for episode in flat_episodes(dataset):
        if layout is not None and spec is not None and layout.past:
            episode.observations = layout.widened_episode(episode.observations, episode.actions, spec.n_actions)
        yield episode


def load(dataset_id: str, progress: bool = True, spec: EnvironmentSpec | None = None) -> Transitions:
    """Loads a dataset from Minari's folder; builds it first when it is one of ours and missing.

    Args:
        dataset_id: Minari id such as `persim/mountaincar/random-v0`, or that of any local dataset with agents.
        progress: Whether a build shows a progress bar.
        spec: See `load_minari`.

    Raises:
        MissingPolicyError: If it would have to be built by a logging policy that has not been trained.
        ValueError: If it neither exists nor has a recipe, or as `load_minari`.
    """
    return load_minari(open_dataset(dataset_id, progress), spec)


def open_dataset(dataset_id: str, progress: bool = True) -> MinariDataset:
    """A dataset as Minari opens it, built first when it is one of ours and missing; errors as `load`."""
    ours = find_dataset(dataset_id)
    if ours is not None:
        build(ours, progress=progress)
        return open_minari(ours.dataset_id)
    check_known(dataset_id)
    return open_minari(dataset_id)


def check_known(dataset_id: str) -> None:
    """Checks that there is a local dataset of an id.

    Raises:
        ValueError: If there is none; names those like it.
    """
    if not (dataset_folder(dataset_id) / "data").is_dir():
        local = set(local_datasets()) - set(DATASETS)
        raise ValueError(
            f"no dataset {dataset_id!r}, built or among those that can be (`persim datasets list`); "
            f"{similar_datasets(dataset_id, local)}"
        )


def load_file(dataset: MinariDataset, spec: EnvironmentSpec | None = None) -> TransitionStore:
    """A dataset as a file that is read in parts; written once, episode by episode, under $PERSIM_HOME.

    Args:
        dataset: The dataset.
        spec: Its layout widens observations by their past; None to leave them.

    Raises:
        ValueError: As `load_minari`.
    """
    name = dataset.spec.dataset_id
    check_spaces(dataset)
    agents = agents_of(dataset)
    layout = spec.layout if spec is not None and spec.layout.past else None
    stamp = _stamp(dataset, repr(layout) if layout else "")
    folder = persim_home() / "transitions" / f"{name.replace('/', '-')}-{stamp[:12]}"
    if matches(folder, stamp):
        return TransitionStore(folder)
    missing, n_agents = may_lack_values(dataset), max(agents) + 1
    pieces = (
        Transitions.from_episodes([episode], [agent], name, n_agents=n_agents, first=number, missing=missing)
        for number, (episode, agent) in enumerate(zip(_episodes(dataset, spec), agents, strict=True))
        if not missing or known_inputs(episode).any()
    )
    if layout is not None and spec is not None and not missing:
        long = (piece for piece in pieces if len(piece) > layout.lag)
        pieces = (layout.widened(piece, spec.n_actions) for piece in long)
    return write_transitions(folder, pieces, n_agents=n_agents, source=name, stamp=stamp)


def load_for_training(
    dataset: MinariDataset, memory: float | None = None, spec: EnvironmentSpec | None = None
) -> Transitions | TransitionStore:
    """The dataset in memory where its training fits into `memory` bytes, else on disk.

    Args:
        dataset: The dataset.
        memory: Bytes; None for half of the machine's memory.
        spec: Its layout widens observations by their past; None to leave them.
    """
    if memory is None:
        memory = 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 4e9
    width = 0 if spec is None else spec.layout.width
    if training_bytes(dataset, width) > memory:
        return load_file(dataset, spec)
    return load_minari(dataset, spec)


def training_bytes(dataset: MinariDataset, width: int = 0) -> float:
    """Memory that training on a dataset takes, about: transitions, their scaled copy and five shuffled orders.

    Args:
        dataset: The dataset.
        width: Columns of an observation; 0 for the dataset's.
    """
    width = width or (flatten_space(dataset.observation_space).shape or (1,))[0]
    actions = int(np.prod(dataset.action_space.shape or (1,)))
    row = 8 + 8 + 8 + 4 * actions + 4 + 1 + 8 * width  # Bytes of a row as `Transitions` keeps it.
    return float(dataset.total_steps) * (row + 4 * (2 + actions + 3 * width) + 5 * 8)


def _stamp(dataset: MinariDataset, layout: str) -> str:
    """Changes when the dataset's files, the chosen episodes or the layout of observations do."""
    digest = hashlib.sha256(np.asarray(dataset.episode_indices, dtype=np.int64).tobytes() + layout.encode())
    for path in sorted(p for p in dataset.storage.data_path.rglob("*") if p.is_file()):
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()
