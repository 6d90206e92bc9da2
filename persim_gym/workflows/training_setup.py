"""What a training needs before its first step: data, spaces, task and recipe, resolved once."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from persim_gym.datasets.load import load_for_training, open_dataset
from persim_gym.datasets.minari_adapter import interface_of_dataset
from persim_gym.datasets.registry import NAMESPACE, find_dataset
from persim_gym.envs.hetero import domain_of
from persim_gym.simulator.training.recipe import TrainingRecipe, recipe_for
from persim_gym.spec import LEARNED_TASK, EnvironmentSpec, task_at
from persim_gym.transition_store import LoggedData, TransitionStore
from persim_gym.transitions import Transitions

_TASK_COLUMNS = ("obs", "action", "next_obs")
_TASK_ROWS = 1000  # that a user's task is tried on


def interface_of(domain: str, interface: EnvironmentSpec | None, task: str) -> EnvironmentSpec:
    """Spaces, time limit and task of a training.

    Raises:
        ValueError: As `train_simulator`.
    """
    if task not in ("", LEARNED_TASK):
        task_at(task)  # fails before the training, not after it
    if domain:
        spec = domain_of(domain)
        return EnvironmentSpec(spec.observation_space, spec.action_space, spec.episode_steps, task or "domain")
    if interface is None:
        raise ValueError("give a domain, or the interface of data that belong to none")
    return replace(interface, task=task or interface.task)


def check_task(reference: str, data: LoggedData) -> None:
    """Calls the user's own task on logged transitions, before training rather than after it.

    Raises:
        ValueError: If it fails there, or gives anything but one finite reward and one end, a bool, a transition.
    """
    task = task_at(reference)
    rows = data.read([0]) if isinstance(data, TransitionStore) else {n: getattr(data, n) for n in _TASK_COLUMNS}
    obs, action, next_obs = (rows[name][:_TASK_ROWS] for name in _TASK_COLUMNS)
    advice = "it takes arrays (obs [..., D], action, next_obs [..., D]) and (next_obs), and gives [...]"
    for some in ((len(obs),), (2, len(obs))):  # planners have members in front: obs [M, B, D] with actions [B]
        now, following = (np.broadcast_to(x, (*some, x.shape[-1])) for x in (obs, next_obs))
        try:
            reward = np.asarray(task.reward(now, action, following), dtype=np.float64)
            ended = np.asarray(task.terminated(following))
        except Exception as error:  # the user's own code
            said = f"task {reference!r} fails on logged transitions ({error!r}), observations {now.shape}"
            raise ValueError(f"{said}; {advice}") from error
        if reward.shape not in (some, action.shape[:1]) or ended.shape != some:  # a reward may be of the action alone
            raise ValueError(
                f"task {reference!r} gives rewards {reward.shape} and ends {ended.shape} of observations {now.shape}; "
                f"{advice}"
            )
        if not np.isfinite(reward).all():
            raise ValueError(f"task {reference!r} gives rewards that are not finite on logged transitions")
        if ended.dtype != np.bool_:
            raise ValueError(
                f"task {reference!r} gives ends of {ended.dtype}, not bool; write a comparison, as next_obs[..., 0] > 2"
            )


def clipping(domain: str, interface: EnvironmentSpec) -> tuple[Any, Any] | None:
    """Bounds that predictions are clipped to, [D] each, or None.

    A domain says whether its physics clips; of other data it is known that every observation lies in the space, and
    clipping to it never takes a prediction further from the truth.
    """
    if domain and not domain_of(domain).clips:
        return None
    return (interface.observation_space.low, interface.observation_space.high) if domain else interface.bounds


def chosen_recipe(
    domain: str,
    interface: EnvironmentSpec,
    recipe_name: str,
    rank: int | None,
    epochs: int | None,
    dataset: str = "",
    recipe: TrainingRecipe | None = None,
) -> TrainingRecipe:
    """The recipe given, that of a domain's dataset, or the general one for its actions; with other rank and epochs."""
    name = dataset.partition("/")[2]  # ours are persim/<domain>/<policy>-v0
    name = name if domain and name.startswith(f"{domain}/") else domain
    recipe = recipe or recipe_for(name, recipe_name, continuous=not interface.n_actions)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, samples=0)
    return recipe if rank is None else replace(recipe, rank=rank)


@dataclass(frozen=True)
class TrainingData:
    """Data to train on.

    Attributes:
        dataset_id: Minari id.
        domain: Name of the domain; empty for data of none.
        memory: GB that the data may take in memory; None for half of the machine's.
    """

    dataset_id: str
    domain: str
    memory: float | None = None

    @classmethod
    def named(cls, name: str, data: str | None, memory: float | None) -> "TrainingData":
        """The data of a simulator: those given, else those it is named after, ours or any of Minari's."""
        ours = find_dataset(f"{NAMESPACE}/{name}") if data is None else find_dataset(data)
        if ours is not None:
            return cls(ours.dataset_id, ours.domain.name, memory)
        return cls(data or name, "", memory)

    def load(self) -> tuple[Transitions | TransitionStore, EnvironmentSpec | None]:
        """The transitions, and spaces and time limit where they belong to no domain."""
        dataset = open_dataset(self.dataset_id)
        memory = None if self.memory is None else self.memory * 1e9
        return load_for_training(dataset, memory), None if self.domain else interface_of_dataset(dataset)
