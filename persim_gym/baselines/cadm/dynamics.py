"""A context-aware dynamics model bound to what an agent has done last: what planners roll out."""

import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.baselines.cadm.model import CadmModel, Gaussian
from persim_gym.history import History
from persim_gym.task import PlanningDynamics

NOISE_STEPS = 64
"""Steps that noise is drawn for at once."""
TILE_PREDICTIONS = 4096
"""Predictions that are made at once; what more of them need falls out of a core's cache."""


def predicted_obs(model: CadmModel, obs: Tensor, scaled: Tensor) -> Tensor:
    """Next observations [..., D] of predictions in scaled units."""
    raw = scaled * model.target_std + model.target_mean
    following = obs + raw
    if model.shape.features.absolute:
        absolute = list(model.shape.features.absolute)
        following[..., absolute] = raw[..., absolute]
    return following


def context_of(model: CadmModel, history: History) -> Tensor:
    """Contexts by each member's own encoder, [M, B, C]."""
    change, action, known = (torch.as_tensor(np.ascontiguousarray(x)) for x in history.last(model.history))
    past = model.scaled_past(change, action, known).flatten(1)
    return model.context(past.expand(model.shape.members, *past.shape))


class CadmDynamics(PlanningDynamics):
    """A model under the contexts of one history, or of one a row; before it is given one, nothing is known.

    A deterministic model predicts one trajectory. A probabilistic one predicts as many as there are particles: each
    keeps its ensemble member, sees that member's context alone, and draws from its Gaussian in every step (TS-∞).
    What is drawn depends on the seed, the history, the particle and the step, so that candidate plans are compared
    under the same noise, in whatever order and however many at once. For this the number of the step follows the
    predicted observation, as one more column; observations without it are at step 0.

    Attributes:
        members: Particles; 1 of a deterministic model.
        memory: Steps of history that it uses.

    Source: Lee et al. (2020); Chua et al. (2018) for trajectory sampling.
    """

    def __init__(self, model: CadmModel, particles: int = 1, seed: int = 0, history: History | None = None) -> None:
        """Computes the contexts.

        Args:
            model: The model, on the CPU.
            particles: Trajectories that a probabilistic model samples, a multiple of its members.
            seed: Of the noise.
            history: What happened last in one episode, or in each of B; None where an episode begins.
        """
        shape = model.shape
        self.members = particles if shape.probabilistic else 1
        self.memory, self.tile = model.history, TILE_PREDICTIONS // self.members
        self._model, self._particles, self._seed = model, particles, seed
        history = history or History.none(1, model.history, shape.obs_dim, shape.action_dim)
        with torch.no_grad():
            self._context = context_of(model, history)  # [M, 1 or B, C]
        self._marks = [_mark(history.last(model.history), row) for row in range(len(history.known))]
        self._noise = np.empty((0, particles, len(self._marks), shape.obs_dim), dtype=np.float32)

    def given(self, history: History) -> "CadmDynamics":
        """The same model under what an agent has done last."""
        return CadmDynamics(self._model, self._particles, self._seed, history)

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> NDArray[np.float32]:
        """Next observations, [members, B, D], of a probabilistic model [members, B, D + 1] with the next step's number.

        Args:
            obs: [members, B, D] or [members, B, D + 1], or without the first axis for all the same.
            action: int64 [B] or float32 [B, A]; the same for all members.

        Raises:
            ValueError: If the sizes do not fit or an action is not one of the model's.
        """
        shape = self._model.shape
        now = np.asarray(obs, dtype=np.float32)
        now = np.broadcast_to(now, (self.members, *now.shape[-2:]))
        acts = np.asarray(action)
        rows, contexts = now.shape[1], self._context.shape[1]
        fits = len(acts) == rows and contexts in (1, rows) and now.shape[2] in (shape.obs_dim, shape.obs_dim + 1)
        if not fits or acts.shape[1:] != ((shape.action_dim,) if shape.action_dim else ()):
            raise ValueError(
                f"observations {now.shape} and actions {acts.shape} do not fit {contexts} histories of {shape.obs_dim} "
                f"components and actions of {shape.action_dim or 'one number'}; give as many rows of everything"
            )
        seen = self._model.scaled_action(action_tensor(acts, shape.n_actions))
        each = torch.tensor(now[..., : shape.obs_dim])
        inputs = torch.cat([self._model.scaled_inputs(each), seen.expand(self.members, -1, -1)], dim=-1)
        predicted = self._predict(inputs)
        if predicted.log_variance is None:
            result: NDArray[np.float32] = predicted_obs(self._model, each, predicted.mean).numpy()
            return result
        step = now[0, :, shape.obs_dim].astype(np.int64) if now.shape[2] > shape.obs_dim else np.zeros(rows, np.int64)
        noise = torch.from_numpy(self._drawn(step))
        drawn = predicted.mean + (0.5 * predicted.log_variance).exp() * noise
        number = torch.from_numpy(step + 1.0).float().expand(self.members, rows)[..., None]
        following = torch.cat([predicted_obs(self._model, each, drawn), number], dim=-1)
        sampled: NDArray[np.float32] = following.numpy()
        return sampled

    def _predict(self, inputs: Tensor) -> Gaussian:
        """Predictions of all particles, [members, B, D], each by its own ensemble member."""
        models = self._model.shape.members
        share, rows = self.members // models, inputs.shape[1]
        own = self._context.expand(models, rows, -1).repeat(1, share, 1)
        mean, spread = self._model.predict(inputs.reshape(models, share * rows, -1), own)
        size = self.members, rows, -1
        return Gaussian(mean.reshape(size), None if spread is None else spread.reshape(size))

    def _drawn(self, step: NDArray[np.int64]) -> NDArray[np.float32]:
        """Noise of rows that are at some steps [B], standard normal, [members, B, D]."""
        while len(self._noise) <= step.max():
            part = len(self._noise) // NOISE_STEPS
            size = NOISE_STEPS, self._particles, self._model.shape.obs_dim
            streams = [np.random.default_rng([self._seed, mark, part]) for mark in self._marks]
            more = np.stack([rng.standard_normal(size, dtype=np.float32) for rng in streams], axis=2)
            self._noise = np.concatenate([self._noise, more])
        row = np.arange(len(step)) if len(self._marks) > 1 else np.zeros(len(step), dtype=np.int64)
        return self._noise[step, :, row].transpose(1, 0, 2)


def action_tensor(action: NDArray[Any], n_actions: int) -> Tensor:
    """Actions as a tensor.

    Raises:
        ValueError: If a discrete action is not one of the model's.
    """
    if not n_actions:
        return torch.as_tensor(np.ascontiguousarray(action, dtype=np.float32))
    if action.dtype.kind not in "iu" or action.size == 0 or not 0 <= action.min() <= action.max() < n_actions:
        raise ValueError(f"expected actions of 0–{n_actions - 1}, got {action!r}")
    return torch.as_tensor(np.ascontiguousarray(action, dtype=np.int64))


def _mark(history: History, row: int) -> int:
    """A number that stands for what is known in a row."""
    return zlib.crc32(b"".join(np.ascontiguousarray(values[row]).tobytes() for values in history))
