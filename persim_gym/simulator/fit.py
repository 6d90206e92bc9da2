"""Trains all members of a factored ensemble at once; checkpoints and resumes."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from persim_gym.simulator.compiled import CompiledTraining
from persim_gym.simulator.encoders import AgentEncoder
from persim_gym.simulator.model import FactoredEnsemble, ModelShape
from persim_gym.simulator.recipe import TrainingRecipe
from persim_gym.simulator.tensors import TensorTraining
from persim_gym.transitions import Transitions

CHECKPOINT_SECONDS = 20.0


class TrainingDiverged(ValueError):
    """The loss or a weight stopped being finite."""


def fit(
    transitions: Transitions,
    recipe: TrainingRecipe,
    *,
    n_actions: int = 0,
    bounds: tuple[NDArray[Any], NDArray[Any]] | None = None,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    progress: bool = True,
) -> FactoredEnsemble:
    """Trains a factored ensemble on logged transitions, thesis algorithm 1.

    Members share the data and differ by initialisation and shuffling. The result depends on the arguments only: an
    interrupted run that goes on from its checkpoint ends with the same weights, bit for bit on one machine.

    Args:
        transitions: The data.
        recipe: Model and training.
        n_actions: Number of discrete actions; 0 when actions are continuous.
        bounds: Lowest and highest observations, [D] each, where the physics clips to them; None where it does not.
        seed: Source of all randomness.
        device: Torch device.
        checkpoint: File that training state is kept in every `checkpoint_seconds`, on Ctrl-C too, and resumed from;
            removed by the caller once the result is safe.
        checkpoint_seconds: See `checkpoint`; 0 saves after each epoch.
        progress: Whether to show a progress bar.

    Returns:
        The trained ensemble, on the CPU.

    Raises:
        TrainingDiverged: If the loss or a weight is not finite.
        ValueError: If a checkpoint belongs to other data or another recipe.
    """
    model = _model_for(transitions, recipe, n_actions, seed)
    if bounds is not None:
        model.obs_low.copy_(torch.as_tensor(bounds[0]))
        model.obs_high.copy_(torch.as_tensor(bounds[1]))
    model.to(device)
    data = _scaled(model, transitions, device)
    batch = min(recipe.batch, len(transitions))
    steps = len(transitions) // batch  # a step needs a full batch; shuffling gives every transition its turn
    engine: TensorTraining | CompiledTraining
    if device == "cpu" and model.shape.small:
        agent, obs, action, delta = (values.numpy() for values in data)
        engine = CompiledTraining(model, agent, obs, action, delta, recipe.pull)
    else:
        engine = TensorTraining(model, *data, recipe.pull)
    identity = _identity(transitions, recipe, seed)
    epoch = _resume(checkpoint, model, engine, identity) if checkpoint else 0
    saved_at, saved_epoch = time.monotonic(), epoch
    kept: tuple[int, dict[str, Tensor]] = (epoch, {})  # the last whole epoch: a cut-off one leaves half of its updates
    bar = tqdm(total=recipe.epochs, initial=epoch, desc="training", unit="epoch", disable=not progress)
    try:
        while epoch < recipe.epochs:
            rates = np.array([learning_rate(recipe, epoch, i, steps) for i in range(steps)])
            loss = engine.epoch(_order(len(transitions), recipe.members, seed, epoch), rates, batch)
            if not math.isfinite(loss) or not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
                raise TrainingDiverged(
                    f"training diverged in epoch {epoch + 1} of {recipe.epochs} (loss {loss}); lower learning_rate "
                    f"({recipe.learning_rate}), or set standardize=True if the data span many magnitudes"
                )
            epoch += 1
            bar.update()
            bar.set_postfix(loss=f"{loss:.2e}")
            if checkpoint:
                kept = (epoch, _state(model, engine))
                if time.monotonic() - saved_at >= checkpoint_seconds:
                    _save(checkpoint, *kept, identity)
                    saved_at, saved_epoch = time.monotonic(), epoch
    finally:  # on Ctrl-C and divergence too
        bar.close()
        if checkpoint and saved_epoch < kept[0]:
            _save(checkpoint, *kept, identity)
    return model.cpu().eval()


def _model_for(transitions: Transitions, recipe: TrainingRecipe, n_actions: int, seed: int) -> FactoredEnsemble:
    shape = ModelShape(
        n_agents=transitions.n_agents,
        obs_dim=transitions.obs.shape[1],
        n_actions=n_actions,
        action_dim=0 if n_actions else transitions.action.shape[1],
        rank=recipe.rank,
        members=recipe.members,
        state_layers=recipe.state_layers,
        action_layers=() if n_actions else recipe.action_layers,
        activation=recipe.activation,
    )
    model = FactoredEnsemble(shape, seed)
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    with torch.no_grad():
        if recipe.agent_mean is not None:
            encoder.bias.fill_(recipe.agent_mean)
        if recipe.agent_std is not None:
            generator = torch.Generator().manual_seed(seed + 1)
            encoder.factor.copy_(torch.randn(encoder.factor.shape, generator=generator) * recipe.agent_std)
        model.logged_std.copy_(torch.from_numpy(transitions.obs).double().std(0).clamp_min(1e-8))
        if recipe.standardize:
            for name, values in _raw(transitions).items():
                if name in ("obs", "delta") or (name == "action" and not n_actions):
                    getattr(model, f"{name}_mean").copy_(values.double().mean(0))
                    getattr(model, f"{name}_std").copy_(values.double().std(0).clamp_min(1e-8))
    return model


def _raw(transitions: Transitions) -> dict[str, Tensor]:
    obs, next_obs = torch.from_numpy(transitions.obs), torch.from_numpy(transitions.next_obs)
    return {"obs": obs, "delta": next_obs - obs, "action": torch.from_numpy(transitions.action)}


def _scaled(model: FactoredEnsemble, transitions: Transitions, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training data in scaled units: agent [K], obs [K, D], action [K] or [K, A], delta [K, D]."""
    raw = {name: values.to(device) for name, values in _raw(transitions).items()}
    return (
        torch.from_numpy(transitions.agent).to(device),
        model.scale_obs(raw["obs"]),
        model.scale_action(raw["action"]),
        (raw["delta"] - model.delta_mean) / model.delta_std,
    )


def _order(k: int, members: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Each member's own order of the data, [M, K], anew in each epoch and the same in each run."""
    rng = np.random.default_rng([seed, epoch])
    return np.stack([rng.permutation(k) for _ in range(members)])


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


def _identity(transitions: Transitions, recipe: TrainingRecipe, seed: int) -> str:
    return json.dumps({"data": transitions.content_hash(), "recipe": recipe.to_json(), "seed": seed}, sort_keys=True)


def _state(model: FactoredEnsemble, engine: TensorTraining | CompiledTraining) -> dict[str, Tensor]:
    """A copy of all that training goes on from."""
    tensors = {f"model/{name}": value.contiguous().clone() for name, value in model.state_dict().items()}
    return tensors | {"moments": torch.as_tensor(engine.moments).clone(), "count": torch.tensor(engine.count)}


def _save(path: Path, epoch: int, tensors: dict[str, Tensor], identity: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"identity": identity, "epoch": str(epoch)})
    os.replace(partial, path)


def _resume(path: Path, model: FactoredEnsemble, engine: TensorTraining | CompiledTraining, identity: str) -> int:
    """Loads a checkpoint where there is one; returns the number of epochs done."""
    if not path.exists():
        return 0
    try:
        tensors = load_file(path)
        metadata = _metadata(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} cannot be read ({error}); delete it to start anew") from error
    if metadata.get("identity") != identity:
        raise ValueError(f"checkpoint {path} is of other data, recipe or seed; delete it to start anew")
    model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    torch.as_tensor(engine.moments).copy_(tensors["moments"])
    engine.count = int(tensors["count"])
    return int(metadata["epoch"])


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
