"""Loads Minari datasets as flat transitions."""

import minari
from gymnasium import spaces
from minari import MinariDataset

from persim_gym.datasets.collect import build
from persim_gym.datasets.recipes import RECIPES, find_recipe
from persim_gym.transitions import Transitions


def load_minari(dataset: MinariDataset) -> Transitions:
    """Reads any Minari dataset whose episode metadata name the agent.

    Args:
        dataset: Observations must be a flat Box, actions Discrete or a flat Box; every episode's metadata must hold
            `agent`, at the top or in `options`.

    Raises:
        ValueError: If a space is of another kind, an episode has no agent, values are not finite, or the content does
            not match the recorded hash.
    """
    name = dataset.spec.dataset_id
    if not isinstance(dataset.observation_space, spaces.Box) or len(dataset.observation_space.shape) != 1:
        raise ValueError(
            f"{name}: observations must be a flat Box, not {dataset.observation_space}; flatten them first"
        )
    if not isinstance(dataset.action_space, spaces.Discrete | spaces.Box):
        raise ValueError(f"{name}: actions must be Discrete or a Box, not {dataset.action_space}")
    agents = []
    for index, metadata in zip(
        dataset.episode_indices, dataset.storage.get_episode_metadata(dataset.episode_indices), strict=True
    ):
        agent = metadata.get("agent", metadata.get("options", {}).get("agent"))
        if agent is None:
            raise ValueError(
                f"{name}: episode {index} names no agent; write it with "
                'dataset.storage.update_episode_metadata([{"agent": n}, ...])'
            )
        agents.append(int(agent))
    transitions = Transitions.from_episodes(dataset.iterate_episodes(), agents, name)
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
    recipe = find_recipe(dataset_id)
    if recipe is not None:
        build(recipe, progress=progress)
    elif dataset_id not in minari.list_local_datasets():
        raise ValueError(
            f"no dataset {dataset_id!r} among Minari's local datasets, and no recipe for it; can be built: "
            f"{', '.join(RECIPES)}"
        )
    return load_minari(minari.load_dataset(dataset_id))
