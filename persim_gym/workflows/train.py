"""From a dataset's name to a simulator on disk."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from persim_gym.evaluation.figures import rank_figure
from persim_gym.paths import unfinished
from persim_gym.simulator.diagnostics.metrics import ERROR_EPISODES, logged_error
from persim_gym.simulator.registry import save_simulator, simulator_folder
from persim_gym.simulator.training.checkpoint import rounds_file
from persim_gym.simulator.training.least_squares import solve_closed_form
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import PART_ROWS, TrainingDiverged, fit_ensemble
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, EnvironmentSpec
from persim_gym.transition_store import LoggedData, TransitionStore
from persim_gym.workflows.select_rank import best_rank, rank_errors
from persim_gym.workflows.training_setup import TrainingData, check_task, chosen_recipe, clipping, interface_of


def train_simulator(
    transitions: LoggedData,
    *,
    name: str,
    domain: str = "",
    interface: EnvironmentSpec | None = None,
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
        part_rows: As `fit_ensemble`.
        progress: Whether to show a progress bar.

    Returns:
        The simulator's folder.

    Raises:
        ValueError: If neither domain nor interface is given, the task cannot be imported or does not take the data,
            the folder holds something else or cannot be written, or as `fit_ensemble`.
    """
    folder = simulator_folder(name, folder)
    interface = interface_of(domain, interface, task)
    if interface.task not in (DOMAIN_TASK, LEARNED_TASK):
        check_task(interface.task, transitions)
    recipe = chosen_recipe(domain, interface, recipe_name, rank, epochs, transitions.source, recipe)
    data = transitions.content_hash(), transitions.n_agents
    state = unfinished(f"{name}-{seed}", *data, recipe.to_json(), variant, interface.task, part_rows)
    checkpoint = Path(f"{state}.safetensors")
    started = time.perf_counter()
    try:
        model = fit_ensemble(
            transitions,
            recipe,
            n_actions=interface.n_actions,
            bounds=clipping(domain, interface),
            learn_task=interface.task == LEARNED_TASK,
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
        model, beliefs = solve_closed_form(
            model, transitions, recipe, seed, clips=bool(domain), progress=progress, checkpoint=rounds_file(checkpoint)
        )
    seconds = time.perf_counter() - started
    sample = transitions.sample(ERROR_EPISODES) if isinstance(transitions, TransitionStore) else transitions
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
        error=logged_error(model, sample),
        folder=folder,
        beliefs=beliefs,
        license=license or ("MIT" if domain else "not stated"),
    )
    for path in (checkpoint, rounds_file(checkpoint)):
        path.unlink(missing_ok=True)
    return written


def train_by_name(
    name: str,
    *,
    data: str | None = None,
    task: str = "",
    rank: str = "",
    recipe_name: str = "default",
    settings: Sequence[str] = (),
    variant: str = "factored",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    memory: float | None = None,
    license: str = "",
    folder: Path | None = None,
    progress: bool = True,
) -> Path:
    """Trains the simulator of a name; keywords as `train_simulator` and `persim train`.

    `settings` change fields of the recipe, see `TrainingRecipe.changed`.

    Raises:
        ValueError: If the rank is neither a positive number nor "auto", the variant has none, or as `train_simulator`.
    """
    if rank not in ("", "auto") and not (rank.isdigit() and int(rank)):
        raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
    if rank and variant == "unfactorized":
        raise ValueError("an unfactorized simulator has no rank; leave --rank out")
    folder = simulator_folder(name, folder)  # what cannot be written is an error before the training
    source = TrainingData.named(name, data, memory)
    transitions, interface = source.load()
    number, plot = (int(rank) if rank.isdigit() else None), []
    chosen = interface_of(source.domain, interface, task)
    recipe = chosen_recipe(source.domain, chosen, recipe_name, None, epochs, source.dataset_id).changed(settings)
    if rank == "auto":
        if isinstance(transitions, TransitionStore):
            raise ValueError("rank=auto holds data in memory; give a rank, or more memory")
        errors, log = rank_errors(
            source,
            recipe,
            content_hash=transitions.content_hash(),
            task=task,
            variant=variant,
            seed=seed,
            device=device,
        )
        number, enough = best_rank(errors)
        by_rank = {rank: tuple(error) for rank, error in errors.items()}
        plot = [rank_figure(by_rank, number, enough, name, log.with_suffix(".png")), log]
    written = train_simulator(
        transitions,
        name=name,
        domain=source.domain,
        interface=interface,
        task=task,
        recipe_name=" ".join([recipe_name, *settings]),
        recipe=recipe,
        rank=number,
        variant=variant,
        seed=seed,
        device=device,
        license=license,
        folder=folder,
        progress=progress,
    )
    for suffix in (".csv", ".png"):  # of an earlier training
        (written / f"ranks{suffix}").unlink(missing_ok=True)
    for path in plot:
        shutil.copy(path, written / f"ranks{path.suffix}")
    return written
