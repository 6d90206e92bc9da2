"""Trains all members of a factored ensemble at once; checkpoints and resumes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ablations import shared_by_all
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.batches import Batchable, Parts
from persim_gym.simulator.training.checkpoint import remove_checkpoints, rounds_file
from persim_gym.simulator.training.engine import Engine, EnsembleTraining
from persim_gym.simulator.training.initial_model import initial_model
from persim_gym.simulator.training.keeper import Keeper, training_identity
from persim_gym.simulator.training.least_squares import solve_closed_form
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.schedule import learning_rate
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.watch import GRADIENT_STEPS, Watch, unwatched
from persim_gym.transitions import LoggedData


class TrainingDiverged(ValueError):
    """The loss or a weight stopped being finite."""


def train_model(
    data: LoggedData,
    recipe: TrainingRecipe,
    problem: Problem,
    *,
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
    watch: Watch = unwatched,
) -> tuple[FactoredEnsemble, FactorPosterior | None]:
    """Trains a model as a recipe says: gradient steps, then what has a closed form.

    Everything that trains a simulator calls this: the verb, rank selection, calibration and the studies.

    Args:
        data: The data, in memory or on disk.
        recipe: Model and training.
        problem: What is to be learned.
        variant: "factored", or a variant of thesis section 5.3, which has no closed form.
        seed: Source of all randomness.
        device: Torch device.
        checkpoint: File of the state of the gradient steps; that of the rounds in closed form is kept beside it. Remove
            both with `remove_checkpoints` once the result is safe.
        progress: Whether to show progress bars.
        watch: Is told of every step.

    Returns:
        The trained ensemble, on the CPU, and what is believed of its agents; None for other variants.

    Raises:
        TrainingDiverged: As `fit_ensemble`; checkpoints are removed, for the same training would diverge again.
        ValueError: As `fit_ensemble`.
    """
    try:
        model = fit_ensemble(
            data,
            recipe,
            n_actions=problem.n_actions,
            bounds=problem.bounds,
            learn_task=problem.learn_task,
            context=problem.context,
            variant=variant,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            progress=progress,
            watch=watch,
        )
    except TrainingDiverged:
        remove_checkpoints(checkpoint)
        raise
    if variant != "factored":
        return model, None
    rounds = checkpoint and rounds_file(checkpoint)
    return solve_closed_form(model, data, recipe, seed, problem.clips, progress, rounds, watch)


def fit_ensemble(
    data: LoggedData,
    recipe: TrainingRecipe,
    *,
    n_actions: int = 0,
    bounds: tuple[NDArray[Any], NDArray[Any]] | None = None,
    learn_task: bool = False,
    context: tuple[tuple[int, float], ...] = (),
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: bool = True,
    watch: Watch = unwatched,
) -> FactoredEnsemble:
    """Trains a factored ensemble on logged transitions by gradient steps, thesis algorithm 1.

    Members share the data and differ by initialisation and shuffling. The result depends on the arguments only: an
    interrupted run that goes on from its checkpoint ends with the same weights, bit for bit on one machine. On a GPU,
    which adds up in no fixed order, both hold to rounding.

    Args:
        data: The data, in memory or on disk.
        recipe: Model and training.
        n_actions: See `Problem`.
        bounds: See `Problem`.
        learn_task: See `Problem`.
        context: See `Problem`.
        variant: "factored", or a variant of thesis section 5.3.
        seed: Source of all randomness.
        device: Torch device.
        checkpoint: File that training state is kept in every `CHECKPOINT_SECONDS`, on Ctrl-C too, and resumed from;
            removed by the caller once the result is safe.
        progress: Whether to show a progress bar.
        watch: Is told of every step.

    Returns:
        The trained ensemble, on the CPU.

    Raises:
        TrainingDiverged: If the loss or a weight is not finite.
        ValueError: If a checkpoint belongs to other data, another recipe, other options or another device, actions are
            not 0..n_actions-1, the seed is negative, or torch cannot use the device here.
    """
    _check_device(seed, device)
    recipe = recipe.for_data(len(data))
    problem = Problem(n_actions, bounds, learn_task, context=context)
    model = initial_model(data, recipe, problem, variant, seed).to(device)
    parts = Parts(data, seed)
    training = _training(model, parts.read(model, 0, 0), recipe, seed, device)
    identity = training_identity(data, recipe, seed, model, n_actions, parts.number)
    _take_steps(model, training, parts, recipe, Keeper(checkpoint, identity, model, training), progress, watch)
    model.cpu()
    if variant == "unpersonalized":
        model = shared_by_all(model, data.n_agents)
    return model.eval()


def _take_steps(
    model: FactoredEnsemble,
    training: EnsembleTraining,
    parts: Parts,
    recipe: TrainingRecipe,
    keeper: Keeper,
    progress: bool,
    watch: Watch,
) -> None:
    """All steps of a training, from where its checkpoint left off."""
    unit = keeper.resume()  # Parts of epochs that are done.
    units, bound = recipe.epochs * parts.number, 0
    kind = "epoch" if parts.number == 1 else "part"
    with tqdm(total=units, initial=unit, desc="training", unit=kind, disable=not progress) as bar:
        try:
            while unit < units:
                epoch, part = divmod(unit, parts.number)
                if unit != bound and parts.number > 1:
                    training.bind(parts.read(model, epoch, part))
                bound = unit
                loss = _train_part(training, recipe, parts, epoch, part)
                if not math.isfinite(loss) or not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
                    raise TrainingDiverged(
                        f"training diverged in epoch {epoch + 1} of {recipe.epochs} (loss {loss}); lower learning_rate "
                        f"({recipe.learning_rate}), or set standardize=True if the data span many magnitudes"
                    )
                unit += 1
                bar.update()
                bar.set_postfix(loss=f"{loss:.4g}")
                keeper.note(unit, last=unit == units)
                watch(GRADIENT_STEPS, unit, model, loss)
        finally:  # On Ctrl-C and divergence too.
            keeper.flush()


def _check_device(seed: int, device: str) -> None:
    """Checks what would be an error from deep inside torch."""
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    try:
        torch.zeros(1, dtype=torch.float32, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); use cpu") from error


def _train_part(training: EnsembleTraining, recipe: TrainingRecipe, parts: Parts, epoch: int, part: int) -> float:
    """Takes the steps of one part of an epoch; returns their mean loss."""
    lengths = parts.lengths(epoch)
    batch = min(recipe.batch, max(lengths))
    steps = [length // batch for length in lengths]  # A step needs a full batch; shuffling gives every row its turn.
    if not steps[part]:
        return 0.0
    before, total = sum(steps[:part]), sum(steps)
    rates = np.array([learning_rate(recipe, epoch, before + i, total) for i in range(steps[part])])
    return training.epoch(parts.order(recipe.members, epoch, part, lengths[part]), rates, batch)


def _training(
    model: FactoredEnsemble, data: Batchable, recipe: TrainingRecipe, seed: int, device: str
) -> EnsembleTraining:
    """Members side by side on "cpu", or all of them at once elsewhere, by the engine that fits the model."""
    members = model.config.members
    each = [slice(m, m + 1) for m in range(members)]
    engines: list[Engine]
    if device != "cpu":
        engines = [TorchEngine(model, slice(0, members), recipe, seed)]
        return EnsembleTraining(engines, data, side_by_side=False)
    if model.config.small and not recipe.noise and not recipe.weight_decay:
        engines = [NumbaEngine(model, member, recipe) for member in each]
    else:
        engines = [TorchEngine(model, member, recipe, seed * members + m) for m, member in enumerate(each)]
    return EnsembleTraining(engines, data)
