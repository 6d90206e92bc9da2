"""`persim train` and `persim_gym.train`: from logged data to a simulator on disk."""

import shutil
import time
from pathlib import Path
from typing import Any

from minari import MinariDataset
from typing_extensions import Unpack

from persim_gym.simulator.diagnostics.metrics import ERROR_EPISODES, logged_error
from persim_gym.simulator.model_card import SimulatorCard, library_versions
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import train_model
from persim_gym.transitions import LoggedData
from persim_gym.workflows.select_rank import select_rank
from persim_gym.workflows.training_setup import TrainingSetup, TrainOptions, prepare_training


def train(
    data: str | MinariDataset | LoggedData,
    *,
    name: str | None = None,
    recipe: str | TrainingRecipe = "default",
    rank: int | str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    **options: Unpack[TrainOptions],
) -> Simulator:
    """Trains a simulator of all agents and writes it; an interrupted training goes on where it stopped.

    Args:
        data: Name of a dataset ("mountaincar/random-v0", or any Minari id), a Minari dataset, or `Transitions`.
        name: Name of the simulator; by default that of the data.
        recipe: "default", "thesis" for the thesis's own, or a recipe of yours.
        rank: Rank of the factors; "auto" to choose it by cross-validation, None for the recipe's.
        seed: Source of all randomness.
        out: Folder; by default by name under `$PERSIM_HOME`.
        progress: Whether to show progress bars.
        **options: See `TrainOptions`.

    Returns:
        The simulator, as it is on disk.

    Raises:
        ValueError: If the options are impossible or do not fit the data (see `prepare_training`), or as `train_model`.
    """
    given: dict[str, Any] = {"name": name, "recipe": recipe, "seed": seed, "out": out, **options}
    if isinstance(rank, str):
        if rank != "auto":
            raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
        if options.get("variant") == "unfactorized":
            raise ValueError("an unfactorized simulator has no rank; leave the rank out")
        setup, plot = select_rank(prepare_training(data, **given), progress)
    else:
        if rank is not None and options.get("variant") == "unfactorized":
            raise ValueError("an unfactorized simulator has no rank; leave the rank out")
        setup, plot = prepare_training(data, rank=rank, **given), {}
    simulator = _train(setup, progress)
    for suffix in (".csv", ".png"):  # Those of an earlier training are not this one's.
        (simulator.folder / f"ranks{suffix}").unlink(missing_ok=True)
        if suffix in plot:
            shutil.copy(plot[suffix], simulator.folder / f"ranks{suffix}")
    return simulator


def _train(setup: TrainingSetup, progress: bool) -> Simulator:
    """Trains what was resolved, and writes it."""
    data, checkpoint, started = setup.data, setup.checkpoint, time.perf_counter()
    model, beliefs = train_model(
        data,
        setup.recipe,
        setup.problem,
        variant=setup.variant,
        seed=setup.seed,
        device=setup.device,
        checkpoint=checkpoint,
        progress=progress,
    )
    card = SimulatorCard(
        name=setup.name,
        domain=setup.domain,
        dataset=data.source,
        dataset_hash=data.content_hash(),
        transitions=len(data),
        recipe_name=setup.recipe_name,
        recipe=setup.recipe.to_json(),
        seed=setup.seed,
        training_seconds=round(time.perf_counter() - started, 1),
        shape=model.config.to_json(),
        libraries=library_versions(),
        interface=setup.spec.to_json() if setup.own_spec else {},
        error=logged_error(model, data.sample(ERROR_EPISODES)),
        license=setup.license,
    )
    Simulator.of(card, model, data.starts(), beliefs).save(setup.folder)
    remove_checkpoints(checkpoint)
    return load_simulator(str(setup.folder))
