"""`persim train`: which data, which rank, and then a simulator on disk."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from persim_gym.jobs import RowLog, run_jobs
from persim_gym.paths import unfinished
from persim_gym.simulator.diagnostics.metrics import one_step
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.least_squares import solve_closed_form
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.spec import LEARNED_TASK
from persim_gym.transitions import Transitions
from persim_gym.workflows.training_setup import TrainingData, clipping, interface_of

RANKS = (3, 5, 10, 15, 20, 30)  # thesis appendix A.1
HELD_OUT_SHARE = 0.2  # thesis appendix A.1
RESOLVED_ERROR = 1e-3  # of a standard deviation of the change: smaller errors say nothing of the dynamics' rank
MAX_REFINE_ROUNDS = 4  # rounds of `refine` at most: enough to tell ranks apart, and those of large ranks take long


class HeldOut(NamedTuple):
    """Error on held-out points.

    Attributes:
        rmse: Root mean square error, in standard deviations of each predicted quantity's change.
        standard_error: Its standard error, trajectories taken as independent.
    """

    rmse: float
    standard_error: float


def rank_errors(
    source: TrainingData,
    recipe: TrainingRecipe,
    *,
    content_hash: str,
    task: str = "",
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    ranks: tuple[int, ...] = RANKS,
) -> tuple[dict[int, HeldOut], Path]:
    """Error of each rank on held-out points of the trajectories; what is known from an earlier run is not done again.

    Args:
        source: The data.
        recipe: How to train; its rank does not matter.
        content_hash: Of the data, so that other data of that name are measured anew.
        task: As `train_simulator`, as the next three.
        variant: See there.
        seed: See there.
        device: See there.
        ranks: Ranks to try.

    Returns:
        The errors by rank, and the CSV file that they are kept in.

    Source: thesis appendix A.1.
    """
    options = (
        content_hash,
        replace(recipe, rank=1, refine=min(recipe.refine, MAX_REFINE_ROUNDS)).to_json(),
        task,
        variant,
    )
    stem = str(unfinished(f"ranks-{source.dataset_id}", *options))
    log = RowLog(Path(f"{stem}.csv"), ("rank", "seed"), ("held_out_error", "standard_error"))
    jobs = [{"rank": rank, "seed": seed} for rank in sorted(ranks, reverse=True)]  # the longest first
    constants = {"source": source, "recipe": recipe, "task": task, "variant": variant, "device": device, "stem": stem}
    rows = run_jobs(held_out_error, jobs, log, description="ranks", constants=constants)
    errors = {int(r["rank"]): HeldOut(float(r["held_out_error"]), float(r["standard_error"])) for r in reversed(rows)}
    return errors, log.path


def held_out_error(
    rank: int, seed: int, source: TrainingData, recipe: TrainingRecipe, task: str, variant: str, device: str, stem: str
) -> dict[str, float]:
    """Trains on 80 % of the points and predicts the others; runs in a worker process, and resumes.

    Returns:
        The fields of `HeldOut`, as the log's columns.
    """
    transitions, interface = source.load()
    assert isinstance(transitions, Transitions)
    interface = interface_of(source.domain, interface, task)
    checkpoint = Path(f"{stem}-{rank}-{seed}.safetensors")
    held_out = np.random.default_rng([seed, 20]).random(len(transitions)) < HELD_OUT_SHARE
    model = fit_ensemble(
        transitions.select(~held_out),
        replace(recipe, rank=rank),
        n_actions=interface.n_actions,
        bounds=clipping(source.domain, interface),
        learn_task=interface.task == LEARNED_TASK,
        variant=variant,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        progress=False,
    )
    rounds = replace(recipe, refine=min(recipe.refine, MAX_REFINE_ROUNDS))
    if rounds.refine and variant == "factored":
        model, _ = solve_closed_form(model, transitions.select(~held_out), rounds, seed, clips=bool(source.domain))
    error = one_step_error(model, transitions.select(held_out))
    checkpoint.unlink(missing_ok=True)
    return {"held_out_error": error.rmse, "standard_error": error.standard_error}


def one_step_error(model: FactoredEnsemble, data: Transitions) -> HeldOut:
    """One-step error of the members' mean."""
    error, change = one_step(model, data)
    squares = np.square(error / np.maximum(change.std(axis=0, dtype=np.float64), 1e-8)).mean(axis=1)
    mean, (which, size) = squares.mean(), np.unique(data.trajectory, return_inverse=True, return_counts=True)[1:]
    excess = np.bincount(which, squares - mean)  # of each trajectory: its points are not independent
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
