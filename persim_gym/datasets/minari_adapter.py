"""What the spaces and episodes of any Minari dataset are to a simulator: flat arrays, and an agent an episode."""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim, flatten_space
from minari import MinariDataset
from numpy.typing import NDArray

from persim_gym.actions import ScoreBox, parts_of, shown_space, with_choices
from persim_gym.datasets.minari_files import REMEDY, episode_metadata, recorded_episodes
from persim_gym.datasets.registry import find_dataset
from persim_gym.labels import Labels
from persim_gym.logged_arrays import UNKNOWN_ACTION
from persim_gym.observation_layout import ObservationLayout
from persim_gym.simulator.model.config import LARGEST_OBSERVATION
from persim_gym.spec import EnvironmentSpec, checked_parts, flat_box
from persim_gym.storage import from_plain, reading, shown

LABELS = "labels"
"""Key of a dataset's metadata: what agents, observations and actions are called."""
MISSING = "missing_values"
"""Key of a dataset's metadata: whether observations, continuous actions and rewards may be NaN, which are missing."""
ACTION_MISSING = "action_missing"
"""Key of the `infos` of steps: whether a discrete action is missing, bool [T + 1], and another stands in its place. A
space of choices has no NaN, and one more choice would be one that policies may take."""
ACTION_PARTS = "action_parts"
"""Key of a dataset's metadata: the parts of actions in a flat Box that hold choices, see `ActionLayout`."""
EXOGENOUS = "exogenous"
"""Key of a dataset's metadata: how many columns of its observations, the last ones, come from outside."""
_NUMBERS = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
_MOST_ACTIONS = 100_000  # Choices of an action: a model has weights for each.
_SPARSE, _FEW = 100, 10_000  # A population may leave out so many numbers an agent, and so many more.
_LOST = 0.1  # An observation whose changes lose more than this share in float32 is warned of.
_SLACK = 1e-5  # Observations at their bounds may be rounded past them by so much.


def spec_of_dataset(dataset: MinariDataset) -> EnvironmentSpec:
    """Spaces of a dataset, and as time limit that of its environment or else the longest episode."""
    action = shown_space(dataset.action_space)
    if isinstance(action, spaces.Box) and not isinstance(action, ScoreBox):
        action = flat_box(action.low, action.high)
    if parts := dataset.storage.metadata.get(ACTION_PARTS):
        assert isinstance(action, spaces.Box)  # As a table's actions are written.
        with reading(f"dataset {dataset.spec.dataset_id}", REMEDY):
            action = checked_parts(parts, action.shape[0]).space(action.low, action.high)
    flat = flatten_space(dataset.observation_space)
    assert isinstance(flat, spaces.Box)
    steps = dataset.env_spec.max_episode_steps if dataset.env_spec is not None else None
    longest = steps or max((int(metadata["total_steps"]) for metadata in episode_metadata(dataset)), default=0)
    outside = int(dataset.storage.metadata.get(EXOGENOUS, 0))
    layout = ObservationLayout(flatdim(dataset.observation_space) - outside, outside) if outside else None
    return EnvironmentSpec(flat_box(flat.low, flat.high), action, longest, labels=labels_of(dataset), own_layout=layout)


def labels_of(dataset: MinariDataset) -> Labels:
    """What a dataset calls its agents, observations and actions, as one that was imported from a table records it.

    Raises:
        ValueError: If the record is damaged.
    """
    with reading(f"dataset {dataset.spec.dataset_id}", REMEDY):
        return from_plain(Labels, dataset.storage.metadata.get(LABELS, {}))


def may_lack_values(dataset: MinariDataset) -> bool:
    """Whether values of a dataset may be missing; see `MISSING`."""
    return dataset.storage.metadata.get(MISSING) is True


def check_spaces(dataset: MinariDataset) -> None:
    """Checks that a simulator can serve a dataset's spaces.

    Raises:
        ValueError: If it cannot; names the part of an observation that is to blame.
    """
    name, action = dataset.spec.dataset_id, dataset.action_space
    for field, part in parts_of(dataset.observation_space, "observations"):
        if not isinstance(part, _NUMBERS):
            raise ValueError(
                f"{name}: {field} must be numbers of a fixed size, not {part}; write the dataset without them, or with "
                "numbers in their place"
            )
        if isinstance(part, spaces.Box) and part.dtype == np.uint8 and len(part.shape) > 1:
            raise ValueError(
                f"{name}: {field} hold images, {part}; a simulator predicts vectors; write the dataset with features "
                "of the images in their place"
            )
    if (width := flatdim(dataset.observation_space)) > LARGEST_OBSERVATION:
        raise ValueError(
            f"{name}: observations are {width:,} numbers when they are flat; at most {LARGEST_OBSERVATION:,} are served"
        )
    for field, part in parts_of(action, "actions"):
        if not isinstance(part, _NUMBERS):
            raise ValueError(f"{name}: {field} must be choices or numbers of a fixed size, not {part}")
    if (width := flatdim(action)) > _MOST_ACTIONS:
        raise ValueError(f"{name}: actions are {width:,} numbers or choices; at most {_MOST_ACTIONS:,} are served")
    try:
        spec_of_dataset(dataset)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def agents_of(dataset: MinariDataset) -> list[int]:
    """Agent of each episode: as its metadata name it, else as the `infos` of its steps do.

    Raises:
        ValueError: If one names none, or the numbers are not fit for a population.
    """
    name, indices = dataset.spec.dataset_id, [int(index) for index in dataset.episode_indices]
    named = dict(zip(indices, map(_agent_of_metadata, episode_metadata(dataset)), strict=True))
    silent = [index for index, agent in named.items() if agent is None]
    named |= zip(silent, map(_agent_of_steps, recorded_episodes(dataset, silent)), strict=True)
    agents = []
    for index, agent in named.items():
        if agent is None:
            raise ValueError(
                f"{name}: episode {index} names no agent; write it with "
                'dataset.storage.update_episode_metadata([{"agent": n}, ...]); what was combined from datasets of an '
                "older version, combine anew from ones that are built again"
            )
        agents.append(_whole(agent))
        if agents[-1] < 0:
            raise ValueError(f"{name}: agent {shown(agent)} of episode {index} is no whole number; number them from 0")
    different, size = len(set(agents)), max(agents, default=0) + 1
    if size > _SPARSE * different + _FEW:
        raise ValueError(
            f"{name}: its {different} agents go up to number {size - 1:,}, and a simulator keeps a factor for every "
            "number below it; number them from 0 without gaps"
        )
    return agents


def _agent_of_metadata(metadata: Mapping[str, Any]) -> Any:
    """What an episode's metadata call its agent; None where they do not."""
    options = metadata.get("options")
    return metadata.get("agent", options.get("agent") if isinstance(options, Mapping) else None)


def _agent_of_steps(episode: Any) -> Any:
    """What the `infos` of an episode's steps call its agent, which `minari combine` keeps; None where they do not.

    Where they name several, that is what is returned, and no whole number.
    """
    named = np.unique(np.asarray((episode.infos or {}).get("agent", ())))
    if len(named) == 0:
        return None
    return named.item() if len(named) == 1 else named.tolist()


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
        """Flattens an episode of a dataset.

        Raises:
            ValueError: If observations or actions are of another kind or size than their space.
        """
        self.observations = flat_rows(dataset.observation_space, episode.observations)
        if isinstance(dataset.action_space, spaces.Discrete):
            self.actions = _rows("actions", episode.actions, dataset.action_space, "iu")[:, 0]
            if may_lack_values(dataset) and (missing := (episode.infos or {}).get(ACTION_MISSING)) is not None:
                self.actions = np.where(np.asarray(missing)[: len(self.actions)], UNKNOWN_ACTION, self.actions)
        else:
            self.actions = flat_rows(with_choices(dataset.action_space), episode.actions, "actions").astype(np.float32)
        self.rewards, self.terminations = episode.rewards, episode.terminations


def flat_episodes(dataset: MinariDataset) -> Iterator[FlatEpisode]:
    """Flat episodes, checked against the dataset's spaces where it is not one of ours.

    Raises:
        ValueError: If an observation or action is outside of its space.
    """
    name = dataset.spec.dataset_id
    theirs = None if find_dataset(name) else spec_of_dataset(dataset)
    lost = squares = np.zeros(1)
    names = labels_of(dataset).predicted(flatdim(dataset.observation_space))
    for number, recorded in enumerate(recorded_episodes(dataset)):
        try:
            episode = FlatEpisode(recorded, dataset)
        except ValueError as error:
            raise ValueError(
                f"{name}: episode {dataset.episode_indices[number]} has {error}; repair or drop it"
            ) from error
        if theirs is not None:
            _check_inside(dataset, number, episode, theirs)
        with np.errstate(over="ignore", invalid="ignore"):  # The caller refuses what is not finite.
            change = np.diff(episode.observations.astype(np.float64), axis=0)
            rounding = np.diff(episode.observations.astype(np.float32).astype(np.float64), axis=0) - change
            lost, squares = lost + np.nansum(rounding**2, axis=0), squares + np.nansum(change**2, axis=0)
        yield episode
    for d in np.flatnonzero(lost > _LOST**2 * squares):
        warnings.warn(
            f"{name}: {names[d]} changes by less than float32 resolves at its size, and cannot "
            "be learned; subtract a constant from it, as the first time stamp from the others",
            stacklevel=2,
        )


def flat_rows(space: spaces.Space[Any], rows: Any, field: str = "observations") -> NDArray[Any]:
    """Rows of a space as Gymnasium flattens each one.

    Args:
        space: The space.
        rows: Values of T steps, [T, ...]; as dictionary or tuple where the space is one.
        field: What they are, for messages.

    Returns:
        [T, D].

    Raises:
        ValueError: If they are of another kind or size than the space.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        parts = []
        for key, part in inner:
            try:
                found = rows[key]
            except (KeyError, IndexError, TypeError):
                raise ValueError(f"no {field}[{key!r}], which its space has") from None
            parts.append(flat_rows(part, found, f"{field}[{key!r}]"))
        if len(lengths := {len(part) for part in parts}) > 1:
            raise ValueError(f"{field} whose parts have {' and '.join(map(str, sorted(lengths)))} rows")
        return np.concatenate(parts, axis=1)
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return _one_hot(field, rows, space)
    return _rows(field, rows, space, "fiub")


def _one_hot(field: str, rows: Any, space: spaces.Discrete | spaces.MultiDiscrete) -> NDArray[Any]:
    """Rows of whole numbers as ones among zeros, [T, D], a block for each number."""
    values = _rows(field, rows, space, "iub").astype(np.int64)  # [T, P]
    counts = np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec).astype(np.int64)  # [P]
    chosen = values - np.ravel(space.start)
    if ((chosen < 0) | (chosen >= counts)).any():
        raise ValueError(f"{field} from {values.min()} to {values.max()}, outside of {space}")
    hot = np.zeros((len(values), int(counts.sum())), dtype=space.dtype)
    np.put_along_axis(hot, chosen + np.cumsum(counts) - counts, 1, axis=1)
    return hot


def _rows(field: str, rows: Any, space: spaces.Space[Any], kinds: str) -> NDArray[Any]:
    """Rows [T, size] of a space of numbers; `kinds` are NumPy's letters of the types that they may have.

    Raises:
        ValueError: If they are of another type or size.
    """
    values, size = np.asarray(rows), math.prod(space.shape or ())
    if values.ndim < 1 or values.dtype.kind not in kinds or math.prod(values.shape[1:]) != size:
        raise ValueError(f"{field} of {values.dtype} {list(values.shape)}, which are not of {space}")
    return values.reshape(len(values), size)


def _check_inside(dataset: MinariDataset, number: int, episode: "FlatEpisode", interface: EnvironmentSpec) -> None:
    """Checks that an episode's observations and actions are of the dataset's own spaces.

    Raises:
        ValueError: If they are not: predictions are clipped to the observation space, and actions are indices.
    """
    name = f"{dataset.spec.dataset_id}: episode {dataset.episode_indices[number]}"
    actions = episode.actions
    if interface.n_actions and may_lack_values(dataset):
        actions = actions[actions != UNKNOWN_ACTION]
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
