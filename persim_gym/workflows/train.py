"""`persim train` and `persim_gym.train`: from logged data to a simulator on disk."""

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from minari import MinariDataset
from tqdm import tqdm
from typing_extensions import Unpack

from persim_gym.evaluation.horizons import BY_HORIZON
from persim_gym.evaluation.traces import TRACES, write_traces
from persim_gym.jobs import JobPlace
from persim_gym.simulator.diagnostics.curves import watching
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise
from persim_gym.simulator.diagnostics.metrics import ERROR_EPISODES, logged_error
from persim_gym.simulator.inference.static_prior import StaticColumn, static_columns
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.storage import CARD
from persim_gym.transitions import LoggedData, Transitions
from persim_gym.workflows.build_simulator import of_seen, simulator_of
from persim_gym.workflows.hold_out import held_out_errors, trained
from persim_gym.workflows.select_rank import select_rank
from persim_gym.workflows.training_setup import TrainingSetup, TrainOptions, prepare_training

HELD_OUT_SHARE = 0.01  # Without errors by horizon so much of data of no domain is not trained on, and shows the error.
RANK_SAW_ALL = "the rank was chosen on all data, what was held out here included"
MIN_HELD_OUT, MAX_HELD_OUT = 50, 5000  # Transitions.
MAX_HELD_OUT_SHARE = 0.1  # Where `MIN_HELD_OUT` would be more than this, all data are trained on.


def train(
    data: str | MinariDataset | LoggedData,
    *,
    name: str | None = None,
    recipe: str | TrainingRecipe = "default",
    rank: int | str | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
    **options: Unpack[TrainOptions],
) -> Simulator:
    """Trains a simulator of all agents and writes it; an interrupted training goes on where it stopped.

    One that is there already, of the same data, recipe, seed and options, is loaded and not trained again.

    Args:
        data: Name of a dataset ("mountaincar/random-v0", or any Minari id), a Minari dataset, or `Transitions`.
        name: Name of the simulator; by default that of the data.
        recipe: "default", "thesis" for the thesis's own, or a recipe of yours.
        rank: Rank of the factors; "auto" to choose it by cross-validation, None for the recipe's.
        seed: Source of all randomness.
        out: Folder; by default by name under `$PERSIM_HOME`.
        workers: Processes of rank selection; None for one a core.
        force: Whether to train anew, and to replace another simulator that is there.
        progress: Whether to show progress bars.
        **options: See `TrainOptions`.

    Returns:
        The simulator, as it is on disk.

    Raises:
        ValueError: If the options are impossible or do not fit the data (see `prepare_training`), the folder holds
            another simulator, or as `train_model`.
    """
    given: dict[str, Any] = {"name": name, "recipe": recipe, "seed": seed, "out": out, **options}
    if isinstance(rank, str):
        if rank != "auto":
            raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
        if options.get("variant") == "unfactorized":
            raise ValueError("an unfactorized simulator has no rank; leave the rank out")
        setup = prepare_training(data, **given)
        _check_place(setup, force, any_rank=True)
        setup, plot = select_rank(setup, progress, **_place(workers, options))
    else:
        if rank is not None and options.get("variant") == "unfactorized":
            raise ValueError("an unfactorized simulator has no rank; leave the rank out")
        setup, plot = prepare_training(data, rank=rank, **given), {}
    if not force and (finished := _check_place(setup)):
        if progress:
            tqdm.write(f"{finished.folder}: trained before with the same data, recipe and seed; --force trains it anew")
        return finished
    simulator = _train(setup, progress, rank_is_chosen=bool(plot))
    for suffix in (".csv", ".png"):  # Those of an earlier training are not this one's.
        (simulator.folder / f"ranks{suffix}").unlink(missing_ok=True)
        if suffix in plot:
            shutil.copy(plot[suffix], simulator.folder / f"ranks{suffix}")
    return simulator


def _place(workers: int | None, options: TrainOptions) -> JobPlace:
    """Where ranks are tried."""
    return {"workers": workers, "backend": options.get("backend", "local"), "address": options.get("address")}


def _check_place(setup: TrainingSetup, force: bool = False, any_rank: bool = False) -> Simulator | None:
    """The simulator in the folder of a training, if it is the result of that training; None for an empty folder.

    Raises:
        ValueError: If it is another one and `force` is off.
    """
    if force or not (setup.folder / CARD).is_file():
        return None
    there = load_simulator(str(setup.folder))
    card, recipe, size = there.card, setup.recipe, len(setup.data)
    if any_rank:
        recipe = replace(recipe, rank=card.recipe["rank"])
    parts = {
        "data": (card.dataset_hash, setup.data.content_hash()),
        "recipe": (TrainingRecipe.from_json(card.recipe).for_data(size), recipe.for_data(size)),
        "seed": (card.seed, setup.seed),
        "variant": (there.model.config.variant, setup.variant),
        "task": (there.spec.task, setup.spec.task),
        "names": (there.spec.labels, setup.spec.labels),
        "history": (there.spec.layout.context, setup.spec.layout.context),
        "agents": (there.model.config.n_agents, setup.data.n_agents),
        "static covariates": _covariates(there, setup),
    }
    if others := [name for name, (stored, wanted) in parts.items() if stored != wanted]:
        raise ValueError(
            f"{setup.folder} holds another simulator (different {', '.join(others)}); --force replaces it, --out puts "
            "the new one elsewhere"
        )
    return there


def _covariates(there: Simulator, setup: TrainingSetup) -> tuple[tuple[StaticColumn, ...], tuple[StaticColumn, ...]]:
    """Static covariates that a simulator was trained with, and those of a training, as far as the data are the same."""
    stored = there.static.columns if there.static is not None else ()
    if there.beliefs is None or setup.variant != "factored" or there.n_agents != setup.data.n_agents:
        return stored, stored
    return stored, static_columns(of_seen(there.beliefs, setup.static)[1])


def _hold_out(setup: TrainingSetup) -> tuple[LoggedData, Transitions | None]:
    """The data to train on, and a few transitions that are kept from it to measure the error on.

    None are held out of a domain's data, whose error is measured against the true environment, of few data, and of data
    on disk.
    """
    data = setup.data
    count = max(MIN_HELD_OUT, min(MAX_HELD_OUT, round(HELD_OUT_SHARE * len(data))))
    if setup.domain or not data.in_memory or count > MAX_HELD_OUT_SHARE * len(data):
        return data, None
    whole = data.sample(0)  # In memory, where it is whole.
    chosen = np.zeros(len(data), dtype=np.bool_)
    chosen[np.random.default_rng([setup.seed, 21]).choice(len(data), count, replace=False)] = True
    return whole.select(~chosen), whole.select(chosen)


def _train(setup: TrainingSetup, progress: bool, rank_is_chosen: bool = False) -> Simulator:
    """Trains what was resolved, and writes it; its rank may have been chosen by cross-validation."""
    started = time.perf_counter()
    measured = held_out_errors(setup, progress) if setup.holdout else None
    kept, held_out = (setup.data, None) if measured else _hold_out(setup)
    names, logged = setup.spec.predicted_names, setup.data.sample(ERROR_EPISODES)
    shown = logged if held_out is None else held_out
    with watching(setup.curves("training"), shown, names, setup.seed) as watch:
        model, beliefs = trained(replace(setup, data=kept), progress, setup.checkpoint, watch)
    error = logged_error(model, logged, held_out=held_out, names=names)
    if measured:
        said = measured.report.said + (RANK_SAW_ALL,) * rank_is_chosen
        error |= {BY_HORIZON: replace(measured.report, said=said).to_json()}
    simulator = simulator_of(setup, model, beliefs, error, time.perf_counter() - started)
    if measured and measured.noise:
        simulator = replace(simulator, noise=measured.noise.noise, band_scale=measured.noise.band_scale)
    elif held_out is not None:
        simulator = replace(simulator, noise=fitted_noise(model, held_out))
    simulator.save(setup.folder)
    (setup.folder / TRACES).unlink(missing_ok=True)  # Those of an earlier training are not this one's.
    if measured and measured.traces:
        write_traces(measured.traces, setup.folder / TRACES)
    for checkpoint in (setup.checkpoint, *(measured.checkpoints if measured else ())):
        remove_checkpoints(checkpoint)
    return load_simulator(str(setup.folder))
