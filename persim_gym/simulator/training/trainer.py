"""Trains all members of a factored ensemble at once; checkpoints and resumes."""

import json
import math
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from persim_gym.simulator.model.ablations import build_model, population_of_one, shared_by_all
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.encoders import AgentEncoder
from persim_gym.simulator.model.ensemble import SMALLEST_STD, FactoredEnsemble
from persim_gym.simulator.training.batches import Batchable, Parts, moments, sizes
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.simulator.training.members import MemberEngine
from persim_gym.simulator.training.numba_engine import NumbaEngine
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.torch_engine import TorchEngine
from persim_gym.transition_store import LoggedData
from persim_gym.transitions import Transitions

CHECKPOINT_SECONDS = 20.0
PART_ROWS = 4_000_000

Engine: TypeAlias = TorchEngine | NumbaEngine | MemberEngine


class TrainingDiverged(ValueError):
    """The loss or a weight stopped being finite."""


def fit_ensemble(
    transitions: LoggedData,
    recipe: TrainingRecipe,
    *,
    n_actions: int = 0,
    bounds: tuple[NDArray[Any], NDArray[Any]] | None = None,
    learn_task: bool = False,
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    part_rows: int = PART_ROWS,
    progress: bool = True,
) -> FactoredEnsemble:
    """Trains a factored ensemble on logged transitions, thesis algorithm 1.

    Members share the data and differ by initialisation and shuffling. The result depends on the arguments only: an
    interrupted run that goes on from its checkpoint ends with the same weights, bit for bit on one machine. On a GPU,
    which adds up in no fixed order, both hold to rounding.

    Args:
        transitions: The data, in memory or on disk.
        recipe: Model and training.
        n_actions: Number of discrete actions; 0 when actions are continuous.
        bounds: Lowest and highest observations, [D] each, where the physics clips to them; None where it does not.
        learn_task: Whether reward and termination are learned too, as two more outputs.
        variant: "factored", or a variant of thesis section 5.3.
        seed: Source of all randomness.
        device: Torch device.
        checkpoint: File that training state is kept in every `checkpoint_seconds`, on Ctrl-C too, and resumed from;
            removed by the caller once the result is safe.
        checkpoint_seconds: See `checkpoint`; 0 saves after each epoch, or part of one for data on disk.
        part_rows: Transitions on disk that are held in memory at once, about.
        progress: Whether to show a progress bar.

    Returns:
        The trained ensemble, on the CPU.

    Raises:
        TrainingDiverged: If the loss or a weight is not finite.
        ValueError: If a checkpoint belongs to other data, another recipe, other options or another device, actions are
            not 0..n_actions-1, the seed is negative, or torch cannot use the device here.
    """
    _check_input(transitions, n_actions, seed, device)
    recipe = recipe.for_data(len(transitions))
    model = _model_for(transitions, recipe, n_actions, seed, learn_task, variant)
    if bounds is not None:
        size = model.config.obs_dim
        model.obs_low[:size].copy_(torch.as_tensor(bounds[0]))
        model.obs_high[:size].copy_(torch.as_tensor(bounds[1]))
    model.to(device)
    parts = Parts(transitions, seed, part_rows)
    engine = _engine(model, parts.read(model, 0, 0), recipe, device, seed)
    identity = _identity(transitions, recipe, seed, model, n_actions, parts.number)
    unit = _resume_training(checkpoint, model, engine, identity) if checkpoint else 0  # parts of epochs done
    bound = 0
    saved_at, saved = time.monotonic(), unit
    kept: tuple[int, dict[str, Tensor]] = (unit, {})  # the last whole part: a cut-off one leaves half of its updates
    units = recipe.epochs * parts.number
    kind = "epoch" if parts.number == 1 else "part"
    bar = tqdm(total=units, initial=unit, desc="training", unit=kind, disable=not progress)
    try:
        while unit < units:
            epoch, part = divmod(unit, parts.number)
            if unit != bound and parts.number > 1:
                engine.bind(*_for_engine(engine, parts.read(model, epoch, part)))
            bound = unit
            loss = _train_part(engine, recipe, parts, epoch, part)
            if not math.isfinite(loss) or not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
                raise TrainingDiverged(
                    f"training diverged in epoch {epoch + 1} of {recipe.epochs} (loss {loss}); lower learning_rate "
                    f"({recipe.learning_rate}), or set standardize=True if the data span many magnitudes"
                )
            unit += 1
            bar.update()
            bar.set_postfix(loss=f"{loss:.4g}")
            if checkpoint:
                kept = (unit, _state(model, engine))
                if unit == units or time.monotonic() - saved_at >= checkpoint_seconds:
                    _keep(checkpoint, *kept, identity)
                    saved_at, saved = time.monotonic(), unit
    finally:  # on Ctrl-C and divergence too
        bar.close()
        if checkpoint and saved < kept[0]:
            _keep(checkpoint, *kept, identity)
    model.cpu()
    if variant == "unpersonalized":
        model = shared_by_all(model, transitions.n_agents)
    return model.eval()


def _check_input(transitions: LoggedData, n_actions: int, seed: int, device: str) -> None:
    """Checks what would be wrong memory in compiled code, or an error from deep inside torch."""
    if isinstance(transitions, Transitions) and transitions.action.ndim == 1:
        least, most = int(transitions.action.min()), int(transitions.action.max())
        if least < 0 or most >= n_actions:
            raise ValueError(
                f"{transitions.source}: actions {least}–{most} are not 0–{n_actions - 1}; give the right n_actions "
                f"({most + 1} or more), or continuous actions as [K, A]"
            )
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); use cpu") from error


def _train_part(engine: Engine, recipe: TrainingRecipe, parts: Parts, epoch: int, part: int) -> float:
    """Takes the steps of one part of an epoch; returns their mean loss."""
    lengths = parts.lengths(epoch)
    batch = min(recipe.batch, max(lengths))
    steps = [length // batch for length in lengths]  # a step needs a full batch; shuffling gives every row its turn
    if not steps[part]:
        return 0.0
    before, total = sum(steps[:part]), sum(steps)
    rates = np.array([learning_rate(recipe, epoch, before + i, total) for i in range(steps[part])])
    return engine.epoch(parts.order(recipe.members, epoch, part, lengths[part]), rates, batch)


def _engine(model: FactoredEnsemble, data: Batchable, recipe: TrainingRecipe, device: str, seed: int) -> Engine:
    if device == "cpu" and model.config.small and not recipe.noise and not recipe.weight_decay:
        agent, obs, action, target = (values.numpy() for values in data)
        return NumbaEngine(model, agent, obs, action, target, recipe.pull, interaction=recipe.interaction)
    training = MemberEngine if device == "cpu" and model.head is None else TorchEngine
    return training(
        model,
        *data,
        recipe.pull,
        recipe.batch,
        noise=recipe.noise,
        weight_decay=recipe.weight_decay,
        seed=seed,
        interaction=recipe.interaction,
    )


def _for_engine(engine: Engine, data: Batchable) -> tuple[Any, ...]:
    return tuple(values.numpy() for values in data) if isinstance(engine, NumbaEngine) else data


def _model_for(
    transitions: LoggedData, recipe: TrainingRecipe, n_actions: int, seed: int, learn_task: bool, variant: str
) -> FactoredEnsemble:
    obs_dim, action_dim = sizes(transitions)
    shape = ModelConfig(
        n_agents=transitions.n_agents,
        obs_dim=obs_dim,
        n_actions=n_actions,
        action_dim=action_dim,
        rank=recipe.rank,
        members=recipe.members,
        state_layers=recipe.state_layers,
        action_layers=() if n_actions else recipe.action_layers,
        activation=recipe.activation,
        extra_dim=2 if learn_task else 0,
        variant=variant,
    )
    model = build_model(population_of_one(shape) if variant == "unpersonalized" else shape, seed)
    if recipe.walls and not learn_task:
        model.walls.copy_(find_walls(transitions))
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    with torch.no_grad():
        if model.head is None:
            _start_agents(encoder, recipe, seed)
        scales = moments(transitions)
        obs_unit = _units(*scales.obs)
        model.logged_std.copy_(obs_unit)
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
        encoder.factor.copy_(torch.randn(encoder.factor.shape, generator=generator) * recipe.agent_std)


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


def _identity(
    transitions: LoggedData, recipe: TrainingRecipe, seed: int, model: FactoredEnsemble, n_actions: int, parts: int
) -> str:
    """What a checkpoint must agree in with the training that goes on from it."""
    return json.dumps(
        {
            "data": transitions.content_hash(),
            "n_agents": transitions.n_agents,
            "recipe": recipe.to_json(),
            "seed": seed,
            "n_actions": n_actions,
            "bounds": [model.obs_low.tolist(), model.obs_high.tolist()],
            "learn_task": model.config.extra_dim > 0,
            "variant": model.config.variant,
            "parts": parts,
        },
        sort_keys=True,
    )


def _state(model: FactoredEnsemble, engine: Engine) -> dict[str, Tensor]:
    """A copy of all that training goes on from."""
    tensors = {f"model/{name}": value.contiguous().clone() for name, value in model.state_dict().items()}
    kept = {f"engine/{name}": value.clone() for name, value in engine.state().items()}
    return tensors | kept | {"count": torch.tensor(engine.count)}


def _keep(path: Path, epoch: int, tensors: dict[str, Tensor], identity: str) -> None:
    write_checkpoint(path, tensors, {"identity": identity, "epoch": str(epoch)})


def _resume_training(path: Path, model: FactoredEnsemble, engine: Engine, identity: str) -> int:
    """Loads a checkpoint where there is one; returns the number of epochs done."""
    if not path.exists():
        return 0
    try:
        tensors, metadata = read_checkpoint(path)
    except FileNotFoundError:  # another process that trained the same has finished meanwhile
        return 0
    if metadata.get("identity") != identity:
        raise ValueError(f"checkpoint {path} is of other data, recipe, seed or options; delete it to start anew")
    state = {f"engine/{name}": values for name, values in engine.state().items()}
    stored = {name: values.shape for name, values in tensors.items() if name.startswith("engine/")}
    if stored != {name: values.shape for name, values in state.items()}:  # each device's engine keeps its own
        raise ValueError(f"checkpoint {path} was made on another device; go on there, or delete it to start anew")
    model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    for name, values in state.items():
        values.copy_(tensors[name])
    engine.count = int(tensors["count"])
    return int(metadata["epoch"])
