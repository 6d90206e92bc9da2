"""From a dataset's name to a simulator on disk."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from persim_gym.envs.hetero import domain_of
from persim_gym.home import unfinished
from persim_gym.simulator.card import save_simulator, simulator_folder
from persim_gym.simulator.checkpoint import rounds_file
from persim_gym.simulator.data import Logged
from persim_gym.simulator.fit import PART_ROWS, TrainingDiverged, fit
from persim_gym.simulator.interface import DOMAIN, LEARNED, Interface, task_at
from persim_gym.simulator.profile import EPISODES, error_profile
from persim_gym.simulator.recipe import TrainingRecipe, recipe_for
from persim_gym.simulator.refine import finished
from persim_gym.simulator.transition_file import TransitionFile

_TASK_COLUMNS = ("obs", "action", "next_obs")
_TASK_ROWS = 1000  # that a user's task is tried on


def train_simulator(
    transitions: Logged,
    *,
    name: str,
    domain: str = "",
    interface: Interface | None = None,
    task: str = "",
    recipe_name: str = "default",
    recipe: TrainingRecipe | None = None,
    rank: int | None = None,
    epochs: int | None = None,
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    license: str = "",
    folder: Path | None = None,
    part_rows: int = PART_ROWS,
    progress: bool = True,
) -> Path:
    """Trains a simulator and writes it; an interrupted training goes on where it stopped.

    Args:
        transitions: The data, in memory or on disk.
        name: Name of the simulator, by convention `<domain>/<policy>-v0`.
        domain: Name of the domain; empty for data of no domain of ours.
        interface: Spaces and time limit of data of no domain.
        task: "learned" to learn reward and termination, or the user's own as `module:name`; empty for the domain's,
            and for learned ones without a domain.
        recipe_name: "default" or "thesis"; with `recipe`, what the card calls that one.
        recipe: A recipe of your own.
        rank: Rank instead of the recipe's.
        epochs: Passes over the data instead of the recipe's.
        variant: "factored", or a variant of thesis section 5.3.
        seed: Source of all randomness.
        device: Torch device.
        license: Licence of the weights; by default MIT for a domain's, and not stated for data of none.
        folder: Where to; by default under the user's simulators, by name.
        part_rows: As `fit`.
        progress: Whether to show a progress bar.

    Returns:
        The simulator's folder.

    Raises:
        ValueError: If neither domain nor interface is given, the task cannot be imported or does not take the data,
            the folder holds something else or cannot be written, or as `fit`.
    """
    folder = simulator_folder(name, folder)
    interface = interface_of(domain, interface, task)
    if interface.task not in (DOMAIN, LEARNED):
        check_task(interface.task, transitions)
    recipe = chosen_recipe(domain, interface, recipe_name, rank, epochs, transitions.source, recipe)
    data = transitions.content_hash(), transitions.n_agents
    state = unfinished(f"{name}-{seed}", *data, recipe.to_json(), variant, interface.task, part_rows)
    checkpoint = Path(f"{state}.safetensors")
    started = time.perf_counter()
    try:
        model = fit(
            transitions,
            recipe,
            n_actions=interface.n_actions,
            bounds=clipping(domain, interface),
            learn_task=interface.task == LEARNED,
            variant=variant,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            part_rows=part_rows,
            progress=progress,
        )
    except TrainingDiverged:  # it would again, and what was kept would be in the way of another recipe
        checkpoint.unlink(missing_ok=True)
        raise
    beliefs = None
    if variant == "factored":
        model, beliefs = finished(
            model, transitions, recipe, seed, clips=bool(domain), progress=progress, checkpoint=rounds_file(checkpoint)
        )
    seconds = time.perf_counter() - started
    sample = transitions.sample(EPISODES) if isinstance(transitions, TransitionFile) else transitions
    written = save_simulator(
        model,
        name=name,
        domain=domain,
        dataset=transitions.source,
        dataset_hash=transitions.content_hash(),
        transitions=len(transitions),
        recipe_name=recipe_name,
        recipe=recipe.to_json(),
        seed=seed,
        training_seconds=seconds,
        starts=transitions.starts(),
        interface=interface if not domain or task else None,
        error=error_profile(model, sample),
        folder=folder,
        beliefs=beliefs,
        license=license or ("MIT" if domain else "not stated"),
    )
    for path in (checkpoint, rounds_file(checkpoint)):
        path.unlink(missing_ok=True)
    return written


def interface_of(domain: str, interface: Interface | None, task: str) -> Interface:
    """Spaces, time limit and task of a training.

    Raises:
        ValueError: As `train_simulator`.
    """
    if task not in ("", LEARNED):
        task_at(task)  # fails before the training, not after it
    if domain:
        spec = domain_of(domain)
        return Interface(spec.observation_space, spec.action_space, spec.episode_steps, task or "domain")
    if interface is None:
        raise ValueError("give a domain, or the interface of data that belong to none")
    return replace(interface, task=task or interface.task)


def check_task(reference: str, data: Logged) -> None:
    """Calls the user's own task on logged transitions, before training rather than after it.

    Raises:
        ValueError: If it fails there, or gives anything but one finite reward and one end, a bool, a transition.
    """
    task = task_at(reference)
    rows = data.read([0]) if isinstance(data, TransitionFile) else {n: getattr(data, n) for n in _TASK_COLUMNS}
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


def clipping(domain: str, interface: Interface) -> tuple[Any, Any] | None:
    """Bounds that predictions are clipped to, [D] each, or None.

    A domain says whether its physics clips; of other data it is known that every observation lies in the space, and
    clipping to it never takes a prediction further from the truth.
    """
    if domain and not domain_of(domain).clips:
        return None
    return (interface.observation_space.low, interface.observation_space.high) if domain else interface.bounds


def chosen_recipe(
    domain: str,
    interface: Interface,
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
