"""Trains a context-aware dynamics model on logged trajectories; checkpoints and resumes."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from persim_gym.baselines.cadm.config import CadmSettings, CadmShape
from persim_gym.baselines.cadm.model import CadmModel, gaussian_loss
from persim_gym.baselines.cadm.windows import LoggedSteps, logged_steps, set_scales, split_trajectories
from persim_gym.simulator.model.encoders import EnsembleLinear
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.simulator.training.keeper import CHECKPOINT_SECONDS
from persim_gym.simulator.training.torch_engine import multiplies_bfloat16
from persim_gym.transitions import Transitions

VALIDATION_WINDOWS = 2_000
"""Windows that are validated on, at most."""


class CadmDiverged(ValueError):
    """The loss or a weight stopped being finite."""


def fit_cadm(
    data: Transitions,
    shape: CadmShape,
    settings: CadmSettings,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
    half: bool | None = None,
) -> tuple[CadmModel, float]:
    """Trains a model by gradient steps on windows of trajectories.

    Members of the probabilistic variant differ by initialisation and by a bootstrap of the windows. The result depends
    on the arguments only: an interrupted training that goes on from its checkpoint ends with the same weights, bit for
    bit on one machine.

    Args:
        data: Logged trajectories, each in consecutive rows.
        shape: Sizes.
        settings: Model and training.
        seed: Source of all randomness.
        checkpoint: File that training state is kept in every `CHECKPOINT_SECONDS`, and resumed from; removed by the
            caller once the result is safe.
        progress: Whether to show a progress bar.
        half: Whether wide layers multiply in bfloat16 while training; None for where the processor can.

    Returns:
        The trained model, and the root mean squared error of its one-step predictions on validation windows, in
        standard deviations of what is predicted; NaN where nothing was held out.

    Raises:
        CadmDiverged: If the loss or a weight is not finite.
        ValueError: If a checkpoint belongs to another training, or the seed is negative.

    Source: Lee et al. (2020), equations 2 to 5.
    """
    if seed < 0:
        raise ValueError(f"seed={seed} must not be negative")
    model = CadmModel(shape, settings, seed)
    set_scales(model, data)
    training = _Training(model, data, settings, seed, multiplies_bfloat16() if half is None else half)
    identity = json.dumps(
        {"data": data.content_hash(), "shape": asdict(shape), "settings": settings.to_json(), "seed": seed},
        sort_keys=True,
    )
    training.resume(checkpoint, identity)
    with tqdm(total=settings.steps, initial=training.done, desc="training", unit="step", disable=not progress) as bar:
        written = time.monotonic()
        for loss in training.rounds():
            bar.update(training.done - bar.n)
            bar.set_postfix(loss=f"{loss:.4g}", validation=f"{training.error:.4g}")
            if checkpoint is not None and time.monotonic() - written >= CHECKPOINT_SECONDS:
                training.write(checkpoint, identity)
                written = time.monotonic()
    return model.eval().requires_grad_(False), training.error


class _Training:
    """A training under way.

    Attributes:
        done: Steps that are done.
        error: Root mean squared one-step error on validation windows after them; NaN without any.
    """

    def __init__(self, model: CadmModel, data: Transitions, settings: CadmSettings, seed: int, half: bool) -> None:
        self.done, self.error = 0, math.nan
        # Rolling average of the validation error, and its rises in succession.
        self._average, self._rises = math.inf, 0
        self._model, self._settings, self._seed, self._half = model, settings, seed, half
        self._steps = logged_steps(model, data)
        held = split_trajectories(data.trajectory, settings.validation, seed)
        rng, members = np.random.default_rng([seed, 0]), model.shape.members
        trained, validated = np.flatnonzero(~held), np.flatnonzero(held)
        several = members > 1
        self._windows = np.stack([rng.choice(trained, len(trained)) if several else trained for _ in range(members)])
        some = rng.permutation(validated)[:VALIDATION_WINDOWS]
        self._validated = torch.from_numpy(some).expand(members, -1) if len(some) else None
        self._optimizer = torch.optim.Adam(_parameter_groups(model, settings), lr=settings.learning_rate, fused=True)

    @property
    def _stopped(self) -> bool:
        return self._rises >= self._settings.patience

    def rounds(self) -> Iterator[float]:
        """Trains until all steps are done or the validation error rises; gives the mean loss after each round."""
        settings, members = self._settings, self._model.shape.members
        while self.done < settings.steps and not self._stopped:
            count = min(settings.check_every, settings.steps - self.done)
            rng = np.random.default_rng([self._seed, 2, self.done])
            picks = rng.integers(self._windows.shape[1], size=(members, count, settings.batch))
            rows = torch.from_numpy(np.stack([own[pick] for own, pick in zip(self._windows, picks, strict=True)]))
            ahead = torch.from_numpy(drawn_steps(rng, (*picks.shape, settings.drawn), settings.future))
            loss = sum(self._step(rows[:, i], ahead[:, i], self.done + i) for i in range(count)) / count
            if not math.isfinite(loss) or not all(bool(torch.isfinite(p).all()) for p in self._model.parameters()):
                raise CadmDiverged(
                    f"training diverged in steps {self.done + 1} to {self.done + count} of {settings.steps} (loss "
                    f"{loss}); lower learning_rate ({settings.learning_rate})"
                )
            self.done += count
            self._validate()
            yield loss

    @torch.enable_grad()
    def _step(self, rows: Tensor, ahead: Tensor, number: int) -> float:
        """One step of Adam on windows of each member, see `window_loss`; returns the mean loss of a member."""
        settings = self._settings
        if settings.schedule == "cosine":
            for group in self._optimizer.param_groups:
                group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * number / settings.steps)) / 2
        self._optimizer.zero_grad()
        loss = window_loss(self._model, self._steps, rows, ahead, settings, self._half)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return float(loss.detach()) / len(rows)

    @torch.no_grad()
    def _validation_error(self, rows: Tensor) -> float:
        """Mean squared one-step error on the windows that begin with `rows`, [M, B]."""
        context = self._model.context(self._steps.past_of(rows, self._settings.history))
        predicted = self._model.predict(self._steps.forward_inputs[rows], context).mean
        return float((predicted - self._steps.forward_target[rows]).square().mean())

    def _validate(self) -> None:
        """Measures the validation error, and counts rises of its rolling average."""
        if self._validated is None:
            return
        error, keep = self._validation_error(self._validated), self._settings.persistency
        before = 1.5 * error if math.isinf(self._average) else self._average
        self._average = keep * before + (1 - keep) * error
        self._rises = self._rises + 1 if self._average > before else 0
        self.error = math.sqrt(error)

    def write(self, path: Path, identity: str) -> None:
        """Keeps all that the training goes on from."""
        state = {f"model/{name}": value.contiguous() for name, value in self._model.state_dict().items()}
        for i, values in self._optimizer.state_dict()["state"].items():
            state |= {f"adam/{i}/{name}": value.contiguous() for name, value in values.items()}
        numbers = {"done": self.done, "error": self.error, "average": self._average, "rises": self._rises}
        write_checkpoint(path, state, {"identity": identity, "numbers": json.dumps(numbers)})

    def resume(self, path: Path | None, identity: str) -> None:
        """Goes on from a file where there is one.

        Raises:
            ValueError: If it is of another training, or cannot be read.
        """
        if path is None or not path.exists():
            return
        tensors, metadata = read_checkpoint(path)
        if metadata.get("identity") != identity:
            raise ValueError(f"checkpoint {path} is of other data, settings or seed; delete it to start anew")
        parts = {name: value for name, value in tensors.items() if name.startswith("model/")}
        self._model.load_state_dict({name.removeprefix("model/"): value for name, value in parts.items()})
        stored = self._optimizer.state_dict()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam/"):
                _, i, kind = name.split("/")
                moments.setdefault(int(i), {})[kind] = value
        self._optimizer.load_state_dict({**stored, "state": moments})
        numbers = json.loads(metadata["numbers"])
        self.done, self.error = numbers["done"], numbers["error"]
        self._average, self._rises = numbers["average"], numbers["rises"]


def drawn_steps(rng: np.random.Generator, shape: tuple[int, ...], future: int) -> NDArray[np.int64]:
    """Different steps out of `future` along the last axis of a shape, int64; all of them where it has as many."""
    if shape[-1] == future:
        return np.broadcast_to(np.arange(future), shape).copy()
    return rng.random((*shape[:-1], future)).argsort(axis=-1)[..., : shape[-1]]


def window_loss(
    model: CadmModel, steps: LoggedSteps, rows: Tensor, ahead: Tensor, settings: CadmSettings, half: bool = False
) -> Tensor:
    """Loss of windows, summed over members, [].

    The context of the steps before a window's first row serves all of its steps: forward and backward, each predicted
    from the true observation.

    Args:
        model: The model.
        steps: Logged steps in its units.
        rows: First rows of the windows of each member, int64 [M, B].
        ahead: Steps of each window that are predicted, counted from its first, int64 [M, B, S].
        settings: What counts how much.
        half: See `CadmModel.predict`.
    """
    each_step = ahead.shape[-1]
    context = model.context(steps.past_of(rows, settings.history), half).repeat_interleave(each_step, dim=1)
    found, there = (part.flatten(1) for part in steps.future_of(rows, ahead))  # [M, B * S]
    predicted = model.predict(steps.forward_inputs[found], context, half)
    forward = gaussian_loss(predicted, steps.forward_target[found], settings.beta)
    back = model.predict_backward(steps.backward_inputs[found], context, half)
    backward = (back - steps.backward_target[found]).square().mean(dim=-1)
    young = rows - steps.first[rows] < settings.history
    weight = there * torch.where(young, settings.young_weight, 1.0).repeat_interleave(each_step, dim=1)
    each = (forward + settings.backward_weight * backward) * weight
    spread = (model.log_variance_high - model.log_variance_low).sum()
    return (each.sum(1) / weight.sum(1).clamp_min(1.0)).sum() + settings.spread_penalty * spread


def _parameter_groups(model: CadmModel, settings: CadmSettings) -> list[dict[str, object]]:
    """Parameters by weight decay, which adds to the gradient as a squared penalty does; biases have none."""
    decays: dict[float, list[Tensor]] = {}
    counted = set()
    networks = (model.encoder, settings.context_decay), (model.forward_model, settings.decay)
    for network, by_layer in (*networks, (model.backward_model, settings.decay)):
        for layer, decay in zip(network.layers, by_layer, strict=False):
            assert isinstance(layer, EnsembleLinear)
            decays.setdefault(decay, []).append(layer.weight)
            counted.add(layer.weight)
    decays.setdefault(0.0, []).extend(p for p in model.parameters() if p not in counted)
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in decays.items()]
