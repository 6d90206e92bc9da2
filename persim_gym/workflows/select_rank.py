"""`persim train`: which data, which rank, and then a simulator on disk."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm
from typing_extensions import Unpack

from persim_gym.evaluation.figures import rank_figure
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.paths import unfinished
from persim_gym.simulator.diagnostics.metrics import known_mean, known_std, one_step
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import train_model
from persim_gym.transitions import Transitions
from persim_gym.workflows.training_setup import TrainingSetup

RANKS = (3, 5, 10, 15, 20, 30)  # thesis appendix A.1
HELD_OUT_SHARE = 0.2  # thesis appendix A.1
# Errors below this share of a standard deviation of the change say nothing of the dynamics' rank.
RESOLVED_ERROR = 1e-3
MAX_REFINE_ROUNDS = 4  # So many rounds in closed form tell ranks apart; those of large ranks take long.


class HeldOut(NamedTuple):
    """Error on held-out points.

    Attributes:
        rmse: Root mean square error, in standard deviations of each predicted quantity's change.
        standard_error: Its standard error, trajectories taken as independent.
    """

    rmse: float
    standard_error: float


def select_rank(
    setup: TrainingSetup, progress: bool = True, **place: Unpack[JobPlace]
) -> tuple[TrainingSetup, dict[str, Path]]:
    """The training with the smallest rank that is good enough on held-out data.

    Args:
        setup: The training, with data in memory.
        progress: Whether to show a progress bar, and which rank was chosen and why.
        **place: See `JobPlace`.

    Returns:
        The training with its rank changed; and the files of the errors by rank, by suffix: .csv and .png.

    Raises:
        ValueError: If the data are not in memory, or no rank has a finite error.
    """
    if not setup.data.in_memory:
        raise ValueError("rank=auto holds data in memory; give a rank, or more memory")
    errors, table = rank_errors(setup, progress=progress, **place)
    rank, enough = best_rank(errors)
    if progress:
        tqdm.write(rank_reason(errors, rank, enough))
    by_rank = {number: tuple(error) for number, error in errors.items()}
    figure = rank_figure(by_rank, rank, enough, setup.name, table.with_suffix(".png"))
    return replace(setup, recipe=replace(setup.recipe, rank=rank)), {".csv": table, ".png": figure}


def rank_errors(
    setup: TrainingSetup, ranks: tuple[int, ...] = RANKS, progress: bool = True, **place: Unpack[JobPlace]
) -> tuple[dict[int, HeldOut], Path]:
    """Error of each rank on held-out points of the trajectories; what is known from an earlier run is not done again.

    Args:
        setup: The training; its rank does not matter.
        ranks: Ranks to try.
        progress: Whether to show a progress bar.
        **place: See `JobPlace`.

    Returns:
        The errors by rank, and the CSV file that they are kept in.

    Source: thesis appendix A.1.
    """
    options = setup.data.content_hash(), _recipe_of(setup.recipe, 1).to_json(), setup.spec.task, setup.variant
    stem = unfinished(f"ranks-{setup.data.source}", *options)
    log = RowLog(stem.with_name(f"{stem.name}.csv"), ("rank", "seed"), ("held_out_error", "standard_error"))
    jobs = [{"rank": rank, "seed": setup.seed} for rank in sorted(ranks, reverse=True)]  # The longest first.
    rows = run_jobs(
        held_out_error,
        jobs,
        log,
        description="ranks",
        constants={"setup": setup, "stem": stem.name},
        progress=progress,
        folder=stem.parent,
        **place,
    )
    errors = {int(r["rank"]): HeldOut(float(r["held_out_error"]), float(r["standard_error"])) for r in reversed(rows)}
    return errors, log.path


def held_out_error(rank: int, seed: int, setup: TrainingSetup, stem: str, folder: Path) -> dict[str, float]:
    """Trains on 80 % of the points and predicts the others; runs in a worker process, and resumes.

    Returns:
        The fields of `HeldOut`, as the log's columns.
    """
    data = setup.data.sample(0)  # In memory, where it is whole.
    checkpoint = folder / f"{stem}-{rank}-{seed}.safetensors"
    held_out = np.random.default_rng([seed, 20]).random(len(data)) < HELD_OUT_SHARE
    model, _ = train_model(
        data.select(~held_out),
        _recipe_of(setup.recipe, rank),
        setup.problem,
        variant=setup.variant,
        seed=seed,
        device=setup.device,
        checkpoint=checkpoint,
        progress=False,
    )
    error = one_step_error(model, data.select(held_out))
    remove_checkpoints(checkpoint)
    return {"held_out_error": error.rmse, "standard_error": error.standard_error}


def _recipe_of(recipe: TrainingRecipe, rank: int) -> TrainingRecipe:
    """How a rank is trained: no more rounds in closed form than tell ranks apart."""
    refine = min(recipe.refine, MAX_REFINE_ROUNDS)
    return replace(recipe, rank=rank, refine=refine, polish=recipe.polish and refine > 0)


def one_step_error(model: FactoredEnsemble, data: Transitions) -> HeldOut:
    """One-step error of the members' mean."""
    error, change = one_step(model, data)
    squares = known_mean(np.square(error / np.maximum(known_std(change), 1e-8)), axis=1)
    known = ~np.isnan(squares)
    squares, trajectory = squares[known], data.trajectory[known]
    mean, (which, size) = squares.mean(), np.unique(trajectory, return_inverse=True, return_counts=True)[1:]
    # Points of one trajectory are not independent, so that they count together.
    excess = np.bincount(which, squares - mean)
    spread = np.sqrt(np.square(excess).sum()) / size.sum()
    rmse = float(np.sqrt(mean))
    return HeldOut(rmse, float(spread / (2 * max(rmse, 1e-12))))


def best_rank(errors: dict[int, HeldOut]) -> tuple[int, float]:
    """The smallest rank whose error is within one standard error of the smallest, or at most `RESOLVED_ERROR`.

    Where dynamics are learned as exactly as that, more ranks than they have only bring training to the end sooner.

    Returns:
        The rank, and the error that is enough.

    Raises:
        ValueError: If no error is finite.
    """
    finite = {rank: error for rank, error in sorted(errors.items()) if np.isfinite(error.rmse)}
    if not finite:
        raise ValueError("no rank has a finite error on held-out points; lower the recipe's learning_rate")
    best = min(finite.values(), key=lambda error: error.rmse)
    enough = max(best.rmse + best.standard_error, RESOLVED_ERROR)
    return next(rank for rank, error in finite.items() if error.rmse <= enough), enough


def rank_reason(errors: dict[int, HeldOut], rank: int, enough: float) -> str:
    """One line on why a rank was chosen, and the errors of all.

    Args:
        errors: By rank.
        rank: The chosen one.
        enough: The error that was good enough.
    """
    best = min(errors, key=lambda r: (not np.isfinite(errors[r].rmse), errors[r].rmse))
    known = ", ".join(f"{r}: {errors[r].rmse:.3g}" for r in sorted(errors))
    bound = "exact to a thousandth" if enough == RESOLVED_ERROR else f"as good as the best, {best}, to a standard error"
    return f"rank {rank}, the smallest that is {bound}; held-out errors by rank: {known}"
