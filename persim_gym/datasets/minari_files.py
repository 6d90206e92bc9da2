"""Minari's datasets on disk, opened and read so that whatever is damaged is an error of one line."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minari
from minari import MinariDataset
from minari.dataset.minari_storage import METADATA_FILE_NAME
from minari.namespace import NAMESPACE_METADATA_FILENAME
from minari.storage import get_dataset_path

from persim_gym.storage import read_json, reading, scratch_folder, shown, write_json

REMEDY = "remove it, and build or write it again"
_SPACES = ("observation_space", "action_space")
_KINDS: dict[str, tuple[type, Any]] = {  # Of values, and what stands for those that may be left out.
    "total_episodes": (int, None),
    "total_steps": (int, None),
    "content_hash": (str, ""),
    "mean_return": (float, 0.0),
}
_LARGEST_SPACE = 10_000_000  # Numbers of a space: Minari makes its bounds before anything can be checked.
_SMALLEST_EPISODE = 100  # Bytes. Every format keeps more of an episode than that.


def dataset_folder(dataset_id: str) -> Path:
    """Where a dataset is, if it is there."""
    return Path(get_dataset_path(dataset_id))


def make_namespaces(dataset_id: str) -> None:
    """Makes the namespaces of a dataset, as Minari does, but whole or not at all."""
    parts = dataset_id.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        path = dataset_folder("/".join(parts[:count])) / NAMESPACE_METADATA_FILENAME
        if not path.exists():
            write_json(path, {})


@contextmanager
def placing_dataset(dataset_id: str) -> Iterator[Path]:
    """Gives an empty folder; what is there in the end is the dataset, in the place of one that was there before."""
    target = dataset_folder(dataset_id)
    make_namespaces(dataset_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target) as scratch:
        folder, old = scratch / "dataset", scratch / "old"
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise


def local_datasets() -> list[str]:
    """Ids of all local datasets, by their folders, whatever is in them."""
    root = get_dataset_path("")
    return sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("data") if path.is_dir())


def read_metadata(dataset_id: str) -> dict[str, Any]:
    """The metadata of a local dataset as they are stored, checked.

    Raises:
        ValueError: If they are damaged, or hold no spaces: Minari would then make the environment that they name, which
            may be any code.
    """
    data = dataset_folder(dataset_id) / "data"
    with reading(data.parent, REMEDY):
        metadata = read_json(data / METADATA_FILE_NAME)
        for name in _SPACES:
            if not isinstance(metadata.get(name), str):
                raise ValueError(f"{name} is no text in {METADATA_FILE_NAME}")
            _check_size(json.loads(metadata[name]))
        for name, (kind, default) in _KINDS.items():
            if type(metadata.get(name, default)) is not kind:
                raise ValueError(f"{name} in {METADATA_FILE_NAME} is {shown(metadata.get(name))}, no {kind.__name__}")
        size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
        if min(metadata["total_episodes"], metadata["total_steps"]) < 0:
            raise ValueError(f"total_episodes or total_steps in {METADATA_FILE_NAME} is negative")
        if metadata["total_episodes"] > size / _SMALLEST_EPISODE:
            raise ValueError(f"total_episodes is {shown(metadata['total_episodes'])}, more than its files can hold")
        if metadata.get("dataset_id") != dataset_id:
            raise ValueError(f"dataset_id in {METADATA_FILE_NAME} is {shown(metadata.get('dataset_id'))}")
        return metadata


def open_minari(dataset_id: str) -> MinariDataset:
    """Opens a local dataset; errors as `read_metadata`."""
    read_metadata(dataset_id)
    with reading(dataset_folder(dataset_id), REMEDY):
        dataset = minari.load_dataset(dataset_id)
        limit = None if dataset.env_spec is None else dataset.env_spec.max_episode_steps
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"env_spec in {METADATA_FILE_NAME} has max_episode_steps={shown(limit)}")
        return dataset


def episode_metadata(dataset: MinariDataset) -> list[dict[str, Any]]:
    """What is recorded of each episode beside its steps, `total_steps` at least.

    Raises:
        ValueError: If it cannot be read.
    """
    with reading(f"dataset {dataset.spec.dataset_id}", REMEDY):
        every = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
        for index, metadata in zip(dataset.episode_indices, every, strict=True):
            steps = metadata["total_steps"]
            if int(steps) != steps or steps < 0:
                raise ValueError(f"episode {index} has {shown(steps)} steps")
        return every


def recorded_episodes(dataset: MinariDataset, indices: Iterable[int] | None = None) -> Iterator[Any]:
    """Episodes as Minari reads them, one after the other; all that are chosen, or those of some indices.

    Raises:
        ValueError: If one cannot be read.
    """
    chosen = list(dataset.episode_indices if indices is None else indices)
    episodes = None
    for index in chosen:
        with reading(f"dataset {dataset.spec.dataset_id}, episode {index}", REMEDY):
            episodes = episodes or dataset.iterate_episodes(chosen)
            episode = next(episodes)
        yield episode


def _check_size(space: Any) -> None:
    """Refuses the description of a space whose bounds would fill the memory.

    Raises:
        ValueError: If it is one.
    """
    if not isinstance(space, Mapping):
        raise ValueError(f"a space in {METADATA_FILE_NAME} is no object")
    shape, inner = space.get("shape", space.get("n", ())), space.get("subspaces", ())
    if space.get("type") in ("Box", "MultiBinary"):
        sizes = shape if isinstance(shape, list) else [shape]
        if not all(type(size) is int and size >= 0 for size in sizes) or math.prod(sizes) > _LARGEST_SPACE:
            raise ValueError(f"a space in {METADATA_FILE_NAME} has the impossible shape {str(shape)[:40]}")
    for part in inner.values() if isinstance(inner, Mapping) else inner:
        _check_size(part)
