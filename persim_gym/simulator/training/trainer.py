"""Trains all members of a factored ensemble at once; checkpoints and resumes."""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ablations import build_model, population_of_one, shared_by_all
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.encoders import AgentEncoder
from persim_gym.simulator.model.ensemble import SMALLEST_STD, FactoredEnsemble
from persim_gym.simulator.training.batches import Batchable, Parts, moments
from persim_gym.simulator.training.checkpoint import (
    START_ANEW,
    read_checkpoint,
    remove_checkpoints,
    rounds_file,
    write_checkpoint,
)
from persim_gym.simulator.training.engine import Engine, EnsembleTraining
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.simulator.training.least_squares import solve_closed_form
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.simulator.training.watch import GRADIENT_STEPS, Watch, unwatched
from persim_gym.storage import reading
from persim_gym.transitions import LoggedData

CHECKPOINT_SECONDS = 20.0


class TrainingDiverged(ValueError):
    """The loss or a weight stopped being finite."""


@dataclass(frozen=True)
class Problem:
    """What a model has to learn, beyond what data show of themselves.

    Attributes:
        n_actions: Number of discrete actions; 0 when actions are continuous.
        bounds: Lowest and highest observations, [D] each, that predictions are clipped to; None for none.
        learn_task: Whether reward and termination are learned too, as two more outputs.
        clips: Whether values at the bounds are what physics clipped (see `FactorPrior`).
        context: Columns of the observation that are not learned, see `ModelConfig.context`.
        integers: Components of observations that are whole numbers. Training does not ask, but what is measured does.
    """

    n_actions: int = 0
    bounds: tuple[NDArray[Any], NDArray[Any]] | None = None
    learn_task: bool = False
    clips: bool = True
    context: tuple[tuple[int, float], ...] = ()
    integers: tuple[int, ...] = ()

    @classmethod
    def of_model(cls, model: FactoredEnsemble, clips: bool, integers: tuple[int, ...] = ()) -> "Problem":
        """What a trained model has learned."""
        s = model.config
        low, high = (bound[: s.learned_dim].cpu().numpy() for bound in (model.obs_low, model.obs_high))
        return cls(s.n_actions, (low, high), s.extra_dim > 0, clips, s.context, integers)


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
    model = _initial_model(data, recipe, problem, variant, seed).to(device)
    parts = Parts(data, seed)
    training = _training(model, parts.read(model, 0, 0), recipe, seed, device)
    identity = _training_identity(data, recipe, seed, model, n_actions, parts.number)
    _take_steps(model, training, parts, recipe, _Keeper(checkpoint, identity, model, training), progress, watch)
    model.cpu()
    if variant == "unpersonalized":
        model = shared_by_all(model, data.n_agents)
    return model.eval()


def _take_steps(
    model: FactoredEnsemble,
    training: EnsembleTraining,
    parts: Parts,
    recipe: TrainingRecipe,
    keeper: "_Keeper",
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


class _Keeper:
    """Keeps the state of a training in a file: every `CHECKPOINT_SECONDS`, and when it ends or is cut off.

    What is kept is the last whole part of an epoch: one that was cut off leaves half of its updates.
    """

    def __init__(self, path: Path | None, identity: str, model: FactoredEnsemble, training: EnsembleTraining) -> None:
        self._path, self._identity, self._model, self._training = path, identity, model, training
        self._noted: tuple[int, dict[str, Tensor]] | None = None
        self._written_at = time.monotonic()

    def note(self, unit: int, last: bool) -> None:
        """Takes a copy of all that training goes on from after `unit` parts, and writes it where that is due."""
        if self._path is None:
            return
        state = {f"model/{name}": value.contiguous().clone() for name, value in self._model.state_dict().items()}
        state |= {f"engine/{name}": value.clone() for name, value in self._training.state().items()}
        self._noted = unit, state | {"count": torch.tensor(self._training.count)}
        if last or time.monotonic() - self._written_at >= CHECKPOINT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was noted and is not in the file yet."""
        if self._path is None or self._noted is None:
            return
        unit, state = self._noted
        write_checkpoint(self._path, state, {"identity": self._identity, "epoch": str(unit)})
        self._noted, self._written_at = None, time.monotonic()

    def resume(self) -> int:
        """Loads the file where there is one; returns the number of parts done.

        Raises:
            ValueError: If it is of another training, or cannot be read.
        """
        path = self._path
        if path is None or not path.exists():
            return 0
        try:
            tensors, metadata = read_checkpoint(path)
        except FileNotFoundError:  # Another process that trained the same has finished meanwhile.
            return 0
        if metadata.get("identity") != self._identity:
            raise ValueError(f"checkpoint {path} is of other data, recipe, seed or options; delete it to start anew")
        state = {f"engine/{name}": values for name, values in self._training.state().items()}
        stored = {name: values.shape for name, values in tensors.items() if name.startswith("engine/")}
        if stored != {name: values.shape for name, values in state.items()}:  # Each device's engine keeps its own.
            raise ValueError(f"checkpoint {path} was made on another device; go on there, or delete it to start anew")
        own = {name.removeprefix("model/"): values for name, values in tensors.items() if name.startswith("model/")}
        with reading(f"checkpoint {path}", START_ANEW):
            self._model.load_state_dict(own)
            for name, values in state.items():
                values.copy_(tensors[name])
            self._training.count = int(tensors["count"])
            return int(metadata["epoch"])


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


def _initial_model(
    data: LoggedData, recipe: TrainingRecipe, problem: Problem, variant: str, seed: int
) -> FactoredEnsemble:
    """The model before its first step: drawn weights; scales, bounds and walls of the data."""
    config = ModelConfig(
        n_agents=data.n_agents,
        obs_dim=data.obs_dim,
        n_actions=problem.n_actions,
        action_dim=data.action_dim,
        rank=recipe.rank,
        members=recipe.members,
        state_layers=recipe.state_layers,
        action_layers=() if problem.n_actions else recipe.action_layers,
        activation=recipe.activation,
        extra_dim=2 if problem.learn_task else 0,
        variant=variant,
        context=problem.context,
    )
    model = build_model(population_of_one(config) if variant == "unpersonalized" else config, seed)
    bounds, learned = problem.bounds, config.learned_dim
    if bounds is not None:
        model.obs_low[:learned].copy_(torch.as_tensor(bounds[0][:learned]))
        model.obs_high[:learned].copy_(torch.as_tensor(bounds[1][:learned]))
    if recipe.walls and not problem.learn_task and not problem.context:
        model.walls.copy_(find_walls(data))
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    with torch.no_grad():
        if model.head is None:
            _start_agents(encoder, recipe, seed)
        scales = moments(data, learned)
        obs_unit = _units(*scales.obs)
        model.logged_std.copy_(obs_unit[:learned])
        if recipe.standardize:
            pairs = {"obs": (scales.obs[0], obs_unit), "delta": scales.target}
            if scales.action is not None:
                pairs["action"] = scales.action[0], _units(*scales.action)
            for name, (mean, std) in pairs.items():
                size = getattr(model, f"{name}_mean").numel()
                getattr(model, f"{name}_mean").copy_(mean[:size])
                getattr(model, f"{name}_std").copy_(std[:size].clamp_min(SMALLEST_STD))
    return model


def _units(mean: Tensor, std: Tensor) -> Tensor:
    """Units of inputs: standard deviations, but 1 for those that are constant to about what float32 resolves.

    In a tiny unit their rounding would drown all other inputs, and stand for errors and disagreement of any size.
    """
    return torch.where(std > torch.clamp(1e-6 * mean.abs(), min=SMALLEST_STD), std, 1.0)


def _start_agents(encoder: AgentEncoder, recipe: TrainingRecipe, seed: int) -> None:
    if recipe.agent_mean is not None:
        encoder.bias.fill_(recipe.agent_mean)
    if recipe.agent_std is not None:
        generator = torch.Generator().manual_seed(seed + 1)
        encoder.factor.copy_(
            torch.randn(encoder.factor.shape, generator=generator, dtype=torch.float32) * recipe.agent_std
        )


def learning_rate(recipe: TrainingRecipe, epoch: int, step: int, steps: int) -> float:
    """Learning rate of one step of an epoch of `steps` steps.

    One-cycle: a cosine from 1/25 of the peak up to it over the first 30 % of training, then a cosine down to 1/10,000
    of the start, as Smith and Topin's schedule in PyTorch.
    """
    if recipe.schedule == "halving":
        return float(recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every))
    done = (epoch * steps + step) / max(recipe.epochs * steps - 1, 1)
    start, rise = recipe.learning_rate / 25, 0.3
    if done < rise:
        return start + (recipe.learning_rate - start) * (1 - math.cos(math.pi * done / rise)) / 2
    end = start / 1e4
    return end + (recipe.learning_rate - end) * (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


def _training_identity(
    data: LoggedData, recipe: TrainingRecipe, seed: int, model: FactoredEnsemble, n_actions: int, parts: int
) -> str:
    """What a checkpoint must agree in with the training that goes on from it."""
    return json.dumps(
        {
            "data": data.content_hash(),
            "n_agents": data.n_agents,
            "recipe": recipe.to_json(),
            "seed": seed,
            "n_actions": n_actions,
            "bounds": [model.obs_low.tolist(), model.obs_high.tolist()],
            "learn_task": model.config.extra_dim > 0,
            "variant": model.config.variant,
            "parts": parts,
            **({"context": model.config.context} if model.config.context else {}),
        },
        sort_keys=True,
    )
