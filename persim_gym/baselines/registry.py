"""All baselines by name: trains one on logged data, and loads what was trained."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gymnasium.spaces import flatdim
from minari import MinariDataset

from persim_gym.baselines.bcq_continuous import ContinuousBCQ, ContinuousBCQSettings
from persim_gym.baselines.bcq_discrete import DiscreteBCQ, DiscreteBCQSettings
from persim_gym.baselines.behavior_cloning import BehaviorCloning, CategoricalPolicy, CloningSettings, GaussianPolicy
from persim_gym.baselines.iql import IQL, IQLSettings
from persim_gym.baselines.offline import BaselineDiverged, OfflineSettings, Replay, run_updates
from persim_gym.baselines.policy import BaselineCard, BaselinePolicy, read_baseline_card, read_policy_weights
from persim_gym.datasets.load import load_minari, open_dataset
from persim_gym.datasets.minari_adapter import spec_of_dataset
from persim_gym.datasets.registry import find_dataset
from persim_gym.paths import unfinished
from persim_gym.simulator.model_card import library_versions
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.spec import DOMAIN_TASK, EnvironmentSpec
from persim_gym.storage import CARD, changed_fields, from_plain, read_folder, reading, replaceable
from persim_gym.transitions import LoggedData


class Algorithm(NamedTuple):
    """How a baseline is trained on one kind of actions.

    Attributes:
        settings: Class of its settings.
        learner: Makes it ready to be trained: (observation size D, number or size of actions, settings, generator).
    """

    settings: type[OfflineSettings]
    learner: Callable[[int, int, Any, torch.Generator], Any]


@dataclass(frozen=True)
class Baseline:
    """A model-free method that learns a policy from logged data alone.

    Attributes:
        discrete: How it is trained on discrete actions.
        continuous: How it is trained on continuous ones.
        pooled: Whether it may be trained on all agents' transitions as if they were one's.
        single: Whether it may be trained on one agent's transitions.
    """

    discrete: Algorithm
    continuous: Algorithm
    pooled: bool = True
    single: bool = True

    def algorithm(self, spec: EnvironmentSpec) -> Algorithm:
        """How it is trained on the actions of a space."""
        return self.discrete if spec.n_actions else self.continuous


_DISCRETE_BCQ = Algorithm(DiscreteBCQSettings, DiscreteBCQ)
_CONTINUOUS_BCQ = Algorithm(ContinuousBCQSettings, ContinuousBCQ)

BASELINES: dict[str, Baseline] = {
    "bcq-p": Baseline(_DISCRETE_BCQ, _CONTINUOUS_BCQ, single=False),
    "bcq-a": Baseline(_DISCRETE_BCQ, _CONTINUOUS_BCQ, pooled=False),
    "bc": Baseline(
        Algorithm(CloningSettings, partial(BehaviorCloning, CategoricalPolicy)),
        Algorithm(CloningSettings, partial(BehaviorCloning, GaussianPolicy)),
    ),
    "iql": Baseline(
        Algorithm(IQLSettings, partial(IQL, CategoricalPolicy)),
        Algorithm(IQLSettings, partial(IQL, GaussianPolicy)),
    ),
}
"""Model-free methods by name."""


def find_baseline(name: str) -> Baseline:
    """The method of a name.

    Raises:
        ValueError: If there is none; lists those that exist.
    """
    if name not in BASELINES:
        raise ValueError(f"baseline {name!r} is not one of {', '.join(BASELINES)}")
    return BASELINES[name]


def train_baseline(
    name: str,
    data: str | MinariDataset | LoggedData,
    *,
    agent: int | None = None,
    settings: OfflineSettings | Sequence[str] = (),
    iterations: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
    spec: EnvironmentSpec | None = None,
) -> BaselinePolicy:
    """Trains a policy on logged data and writes it; an interrupted training goes on, a finished one is loaded.

    Args:
        name: A key of `BASELINES`.
        data: Name of a dataset ("cartpole/pure-v0", or any Minari id), a Minari dataset, or transitions.
        agent: Whose transitions to train on; None for those of all agents.
        settings: Of the training: all of them, or those that change, each "field=value".
        iterations: Number of updates; None for the settings'.
        seed: Source of all randomness.
        out: Folder; by default `persim-out/baselines/DATASET-NAME`, and in it `agent-N` for one agent.
        force: Whether another baseline in that folder is replaced.
        progress: Whether to show a progress bar.
        spec: Spaces and time limit of transitions of no domain that are given as an object.

    Returns:
        The policy, as it is on disk.

    Raises:
        BaselineDiverged: If a loss is not finite.
        ValueError: If the method or agent is unknown, the method is for all agents, or for one, settings or seed are
            impossible, the data do not fit, or the folder holds something else.
    """
    method = find_baseline(name)
    if not (method.pooled if agent is None else method.single):
        said = "on one agent's transitions; give an agent" if agent is None else "on all agents'; leave the agent out"
        raise ValueError(f"{name} is trained {said}")
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    named = data if isinstance(data, str) else data.spec.dataset_id if isinstance(data, MinariDataset) else data.source
    folder = replaceable(baseline_folder(name, named, agent) if out is None else Path(out))
    logged, spec = _resolved(data, spec)
    chosen = settings_of(name, spec, settings, iterations)
    ours = find_dataset(named)
    card = BaselineCard(
        method=name,
        domain="" if ours is None else ours.domain.name,
        dataset=logged.source,
        dataset_hash=logged.content_hash(),
        agent=agent,
        transitions=0,
        settings=json.loads(json.dumps(asdict(chosen))),
        seed=seed,
        training_seconds=0.0,
        interface=spec.to_json(),
        libraries=library_versions(),
    )
    if (folder / CARD).is_file() and not force:
        return _same(folder, card)
    _train(card, chosen, logged, folder, progress)
    return load_baseline(folder)


def _train(card: BaselineCard, settings: OfflineSettings, data: LoggedData, folder: Path, progress: bool) -> None:
    """Trains what a card describes, and writes it."""
    spec = EnvironmentSpec.from_json(card.interface)
    replay = Replay(data, spec.action_space, agent=card.agent, standardize=settings.standardize)
    algorithm, generator = find_baseline(card.method).algorithm(spec), torch.Generator().manual_seed(card.seed)
    learner = algorithm.learner(*_sizes(spec), settings, generator)
    identity = json.dumps(card.identity, sort_keys=True)
    checkpoint = Path(f"{unfinished(f'{card.method}-{card.dataset}-{card.seed}', identity)}.safetensors")
    options: dict[str, Any] = {"name": card.method, "seed": card.seed, "identity": identity, "progress": progress}
    try:
        seconds = run_updates(learner, replay, settings, checkpoint=checkpoint, **options)
    except BaselineDiverged:
        remove_checkpoints(checkpoint)
        raise
    trained = replace(card, transitions=len(replay), training_seconds=round(seconds, 1))
    BaselinePolicy(learner.policy, trained, replay.obs_mean, replay.obs_std).save(folder)
    remove_checkpoints(checkpoint)


def load_baseline(folder: str | Path, float32: bool = False) -> BaselinePolicy:
    """The policy that `train_baseline` wrote.

    Args:
        folder: Where it is.
        float32: Whether all of it multiplies in float32, whatever its settings.

    Raises:
        ValueError: If the folder holds none, or it is damaged.
    """
    folder = Path(folder).expanduser()
    stored, tensors = read_folder(folder)
    with reading(folder, "give the folder of a trained baseline, or train it again"):
        card = read_baseline_card(folder, stored)
        spec = EnvironmentSpec.from_json(card.interface)
        algorithm = find_baseline(card.method).algorithm(spec)
        settings, sizes = from_plain(algorithm.settings, card.settings), _sizes(spec)
        settings = replace(settings, bfloat16=settings.bfloat16 and not float32)
        if sum(len(v) for v in vars(settings).values() if isinstance(v, tuple)) > len(tensors):
            raise ValueError(f"the weights do not fit the settings on {CARD}, which have more layers")
        drawn = torch.Generator()
        return read_policy_weights(lambda: algorithm.learner(*sizes, settings, drawn).policy, card, tensors)


def settings_of(
    name: str,
    spec: EnvironmentSpec,
    settings: OfflineSettings | Sequence[str] = (),
    iterations: int | None = None,
) -> OfflineSettings:
    """The settings of a training, defaults filled in; arguments as `train_baseline`.

    Raises:
        ValueError: If they are of another method, or a field does not exist or cannot be that.
    """
    kind = find_baseline(name).algorithm(spec).settings
    if isinstance(settings, OfflineSettings):
        if not isinstance(settings, kind):
            raise ValueError(f"{name} takes {kind.__name__} for these actions, not {type(settings).__name__}")
        chosen = settings
    else:
        chosen = changed_fields(kind(), settings)
    return chosen if iterations is None else replace(chosen, iterations=iterations)


def baseline_folder(name: str, dataset: str, agent: int | None = None) -> Path:
    """Where a baseline goes unless told otherwise."""
    dataset = dataset.removeprefix("persim/").strip("/").replace("/", "-")
    folder = Path("persim-out/baselines") / f"{dataset}-{name}"
    return folder if agent is None else folder / f"agent-{agent}"


def _resolved(
    data: str | MinariDataset | LoggedData, spec: EnvironmentSpec | None
) -> tuple[LoggedData, EnvironmentSpec]:
    """The data, and spaces and time limit."""
    if not isinstance(data, LoggedData):
        dataset = open_dataset(data) if isinstance(data, str) else data
        return load_minari(dataset), spec or spec_of_dataset(dataset)
    if spec is not None:
        return data, spec
    if (ours := find_dataset(data.source)) is None:
        raise ValueError(f"{data.source} is no dataset of a domain here; give spec=EnvironmentSpec(...) of its spaces")
    domain = ours.domain
    return data, EnvironmentSpec(domain.observation_space, domain.action_space, domain.episode_steps, DOMAIN_TASK)


def _sizes(spec: EnvironmentSpec) -> tuple[int, int]:
    """Observation size, and the number of discrete actions or the action size."""
    return flatdim(spec.observation_space), spec.n_actions or flatdim(spec.action_space)


def _same(folder: Path, card: BaselineCard) -> BaselinePolicy:
    """What was trained before, if it is the same."""
    found = load_baseline(folder)
    if found.card.identity != card.identity:
        raise ValueError(
            f"{folder} holds another baseline ({found.card.method} of {found.card.dataset}, seed {found.card.seed}, or "
            "of other settings); give another folder, or replace it with --force"
        )
    return found
