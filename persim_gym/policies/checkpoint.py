"""Unfinished trainings on disk."""

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from persim_gym.policies.algorithm import check_plain_zip, new_algorithm, read_parameters
from persim_gym.policies.config import PolicyTraining
from persim_gym.simulator.registry import load_simulator
from persim_gym.storage import (
    CARD,
    checked_array,
    from_plain,
    read_json,
    reading,
    remove_left_behind,
    replacing,
    restored,
    write_json,
)

_POLICY, _BUFFER = "policy.zip", "buffer.npz"
_BUFFER_PARTS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "pos", "full")


@dataclass(frozen=True)
class _Progress:
    """What a checkpoint's card says.

    Attributes:
        training: What is trained.
        simulator_sha256: Of the simulator's weights.
        steps: Environment steps so far.
        seconds: Of training so far.
        best: Best mean return so far; None where the policy has not been judged.
        returns: Running mean, variance and count of returns, by name, where rewards are divided by their spread.
        updates: Updates of the parameters so far.
    """

    training: PolicyTraining
    simulator_sha256: str
    steps: int
    seconds: float
    best: float | None
    returns: dict[str, float]
    updates: int = 0


class KeepBest(BaseCallback):
    """Writes the policy to a file, whenever it is the best so far."""

    def __init__(self, path: Path) -> None:
        """Keeps it in the file `path`."""
        super().__init__()
        self._path = path

    def _on_step(self) -> bool:
        with replacing(self._path) as new:
            self.model.save(new)
        return True


class Checkpoint(BaseCallback):
    """Keeps the policy, its optimiser and, off policy, the replay buffer on disk; the buffer as plain arrays."""

    def __init__(self, folder: Path, training: PolicyTraining, every: float) -> None:
        """Keeps it in `<folder>/checkpoint`, written every so many seconds."""
        super().__init__()
        self.judge: EvalCallback | None = None
        self.best, self.seconds = -np.inf, 0.0
        self._folder = folder / "checkpoint"
        self._training, self._every, self._last = training, every, time.monotonic()
        self._started = time.perf_counter()

    def start(self, env: VecEnv, tensorboard: str | None) -> BaseAlgorithm:
        """The algorithm, new or from the checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged or of another training.
        """
        if not restored(self._folder).exists():
            env.seed(self._training.seed)
            return new_algorithm(self._training, env, tensorboard)
        with reading(self._folder, "remove it to start anew"):
            card = from_plain(_Progress, read_json(self._folder / CARD))
        if card.training != self._training:
            raise ValueError(f"{self._folder} is of another training; --force trains anew, --out puts it elsewhere")
        check_weights(self._folder, self._training, card.simulator_sha256)
        with reading(self._folder, "remove it to start anew"):
            if isinstance(env, VecNormalize):
                for name, value in card.returns.items():
                    if name not in vars(env.ret_rms):
                        raise ValueError(f"returns on {CARD} have no {name}")
                    setattr(env.ret_rms, name, np.float64(value))
            self.best, self.seconds = -np.inf if card.best is None else card.best, card.seconds
            model = new_algorithm(self._training, env, tensorboard)
            read_parameters(model, self._folder / _POLICY)
            # Random numbers are not those of the steps before.
            model.set_random_seed(self._training.seed + card.steps)
            model.num_timesteps, model._n_updates = card.steps, card.updates
            if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
                self._read_buffer(model.replay_buffer)
        return model

    def _read_buffer(self, buffer: ReplayBuffer) -> None:
        check_plain_zip(self._folder / _BUFFER)
        with (self._folder / _BUFFER).open("rb") as file, np.load(file) as stored:  # np.load leaves damaged files open.
            for name in _BUFFER_PARTS:
                value = checked_array(name, stored[name], np.shape(getattr(buffer, name)), "fiub", _BUFFER)
                setattr(buffer, name, value if value.ndim else value.item())

    def save(self) -> None:
        """Replaces the checkpoint whole."""
        assert self.judge is not None
        seconds = self.seconds + time.perf_counter() - self._started
        normalized = self.model.get_vec_normalize_env()
        returns = vars(normalized.ret_rms) if normalized is not None else {}
        best = float(self.judge.best_mean_reward)
        card = _Progress(
            training=self._training,
            simulator_sha256=load_simulator(self._training.simulator).card.sha256,
            steps=self.model.num_timesteps,
            updates=self.model._n_updates,
            seconds=seconds,
            best=best if np.isfinite(best) else None,
            returns={name: float(value) for name, value in returns.items()},
        )
        buffer = getattr(self.model, "replay_buffer", None)
        with replacing(self._folder, CARD) as new:
            self.model.save(new / _POLICY)
            if buffer is not None:
                np.savez(new / _BUFFER, **{name: getattr(buffer, name) for name in _BUFFER_PARTS})
            write_json(new / CARD, asdict(card))

    def remove(self) -> None:
        """Removes the checkpoint of a finished training."""
        remove_left_behind(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _on_step(self) -> bool:
        if time.monotonic() - self._last >= self._every:
            self.save()
            self._last = time.monotonic()
        return True


def check_weights(path: Path, training: PolicyTraining, trained_in: str) -> None:
    """Refuses what was trained in the simulator before its weights became others.

    Raises:
        ValueError: If the simulator's weights are not those of the hash `trained_in`.
    """
    if not training.truth and trained_in != load_simulator(training.simulator).card.sha256:
        raise ValueError(
            f"{path} was trained in other weights of simulator {training.simulator}; --force trains anew, --out puts "
            "it elsewhere"
        )
