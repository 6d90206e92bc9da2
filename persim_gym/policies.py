"""Trains Stable-Baselines3 policies inside a simulator, or in the true environment; one result file an agent."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from persim_gym.envs.hetero import domain_of
from persim_gym.evaluate import episode_returns
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.card import DEFAULT_SIMULATOR, load_simulator

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "dqn": DQN, "sac": SAC, "td3": TD3}
CHECKPOINT_SECONDS = 60.0
TIMES = 20  # that a policy is judged during training
JUDGED = 50  # episodes, side by side, that choose the best policy
TESTED = 100  # episodes of the returns reported at the end

_CARD, _POLICY, _BUFFER = "card.json", "policy.zip", "buffer.npz"
_BUFFER_PARTS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "pos", "full")
_OFF_POLICY = {"learning_starts": 1000, "buffer_size": 200_000, "batch_size": 256}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ppo": {"n_envs": 32, "steps": 150_000, "n_steps": 64, "batch_size": 256, "learning_rate": 1e-3},
    "dqn": {
        "n_envs": 16,
        "steps": 60_000,
        "learning_rate": 1e-3,
        "batch_size": 128,
        "train_freq": 4,
        "gradient_steps": 8,
        "target_update_interval": 600,
        "exploration_fraction": 0.3,
        "learning_starts": 2000,
        "buffer_size": 100_000,
        "policy_kwargs": {"net_arch": [128, 128]},
    },
    "sac": {"n_envs": 4, "steps": 100_000, "gradient_steps": 4, **_OFF_POLICY},
    "td3": {"n_envs": 4, "steps": 100_000, "gradient_steps": 4, **_OFF_POLICY},
}
_DOMAINS: dict[tuple[str, str], dict[str, Any]] = {
    ("cartpole", "ppo"): {"steps": 60_000},
    ("mountaincar", "dqn"): {"steps": 40_000},
    ("mountaincar", "ppo"): {"steps": 1_000_000, "n_steps": 128, "gae_lambda": 0.98, "n_epochs": 4, "ent_coef": 0.01},
    ("pendulum", "ppo"): {"steps": 300_000, "n_steps": 128, "gamma": 0.9, "gae_lambda": 0.95},
    ("pendulum", "sac"): {"steps": 20_000},
    ("pendulum", "td3"): {"steps": 20_000},
}


@dataclass(frozen=True)
class Training:
    """What is trained, where and how; equal values, the same training.

    Attributes:
        agent: The agent.
        algo: A key of `ALGORITHMS`.
        simulator: Name or path of the simulator; with `true`, it only names the domain.
        true: Whether to train in the true environment instead.
        steps: Environment steps.
        n_envs: Rows stepped at once.
        seed: Seed of the policy and its environments.
        environment: Keywords of `PersimEnv`: member, penalty, halt, starts.
        hyperparameters: Of the algorithm.
    """

    agent: int
    algo: str = "ppo"
    simulator: str = DEFAULT_SIMULATOR
    true: bool = False
    steps: int = 0
    n_envs: int = 0
    seed: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedPolicy:
    """What a training brought.

    Attributes:
        training: What was trained, all defaults filled in.
        domain: Name of the domain.
        simulator_sha256: Of the simulator's weights.
        simulator_return: Mean return in the simulator.
        simulator_std: Its standard deviation over episodes.
        true_return: Mean return in the true environment.
        true_std: Its standard deviation over episodes.
        seconds: Wall-clock time of the training.
        model: File of the policy, relative to the result's folder.
    """

    training: Training
    domain: str
    simulator_sha256: str
    simulator_return: float
    simulator_std: float
    true_return: float
    true_std: float
    seconds: float
    model: str


def complete(training: Training) -> Training:
    """Fills defaults in: those of the algorithm, then of the domain, then the caller's.

    Raises:
        UnknownSimulatorError: If there is no such simulator.
        ValueError: If the algorithm is unknown or does not fit the domain's actions.
    """
    if training.algo not in ALGORITHMS:
        raise ValueError(f"algorithm {training.algo!r} is not one of {', '.join(ALGORITHMS)}")
    domain = domain_of(load_simulator(training.simulator).card.domain)
    discrete = not hasattr(domain.action_space, "low")
    if (training.algo == "dqn") != discrete and training.algo != "ppo":
        fitting = "ppo, dqn" if discrete else "ppo, sac, td3"
        raise ValueError(f"{training.algo} does not fit {domain.name}'s {domain.action_space}; use one of {fitting}")
    known = _DEFAULTS[training.algo] | _DOMAINS.get((domain.name, training.algo), {})
    hyper = {k: v for k, v in known.items() if k not in ("steps", "n_envs")} | training.hyperparameters
    return Training(
        **{
            **{f.name: getattr(training, f.name) for f in fields(training)},
            "steps": training.steps or known["steps"],
            "n_envs": training.n_envs or known["n_envs"],
            "hyperparameters": hyper,
        }
    )


def training_env(training: Training, rows: int) -> VecEnv:
    """The environment of a training, with `rows` rows; true or simulated."""
    if training.true:
        domain = domain_of(load_simulator(training.simulator).card.domain)
        return VecMonitor(make_vec_env(domain.env_id, agent=training.agent, n_envs=rows))
    keywords = {"simulator": training.simulator, **training.environment}
    return VecMonitor(make_vec_env(agent=training.agent, n_envs=rows, **keywords))


def train_policy(
    training: Training,
    out: Path,
    *,
    progress: bool = True,
    tensorboard: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> TrainedPolicy:
    """Trains a policy; an interrupted training goes on from its checkpoint, a finished one is read from its file.

    During training the policy is judged 20 times by its return in the environment that it is trained in, and the best
    is kept. A training that goes on draws other random numbers than one that was not interrupted.

    Args:
        training: What to train.
        out: Folder: `agent-<n>.json` is the result, `agent-<n>/` holds the policy and, meanwhile, the checkpoint.
        progress: Whether to show a progress bar.
        tensorboard: Whether to write TensorBoard's logs into `<out>/tensorboard`.
        checkpoint_seconds: Time between checkpoints.

    Raises:
        ValueError: As `complete`; or if `out` holds another training of this agent.
    """
    training = complete(training)
    card = load_simulator(training.simulator).card
    folder, result = out / f"agent-{training.agent}", out / f"agent-{training.agent}.json"
    if result.exists():
        return read_policy(result, training)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = _Checkpoint(folder, training, checkpoint_seconds)
    model = checkpoint.start(training_env(training, training.n_envs), str(out / "tensorboard") if tensorboard else None)
    judge = EvalCallback(
        training_env(training, JUDGED),
        n_eval_episodes=JUDGED,
        eval_freq=max(training.steps // TIMES // training.n_envs, 1),
        best_model_save_path=str(folder),
        verbose=0,
    )
    checkpoint.judge = judge
    judge.best_mean_reward = checkpoint.best
    started = time.perf_counter()
    try:
        model.learn(
            max(training.steps - model.num_timesteps, 0),
            callback=CallbackList([judge, checkpoint]),
            reset_num_timesteps=False,
            progress_bar=progress,
            tb_log_name=f"agent-{training.agent}",
        )
    except KeyboardInterrupt:
        checkpoint.save()
        raise
    seconds = checkpoint.seconds + time.perf_counter() - started
    best = ALGORITHMS[training.algo].load(folder / "best_model.zip", device="cpu")
    inside = _returns_inside(best, training)
    outside = episode_returns(best, domain_of(card.domain), training.agent, episodes=TESTED, seed=training.seed + 1)
    trained = TrainedPolicy(
        training=training,
        domain=card.domain,
        simulator_sha256=card.sha256,
        simulator_return=float(inside.mean()),
        simulator_std=float(inside.std()),
        true_return=float(outside.mean()),
        true_std=float(outside.std()),
        seconds=round(seconds, 1),
        model=f"{folder.name}/best_model.zip",
    )
    _write(result, asdict(trained))
    checkpoint.remove()
    return trained


def read_policy(path: Path, training: Training | None = None) -> TrainedPolicy:
    """Reads a result file.

    Args:
        path: The file.
        training: What it should be the result of; None for anything.

    Raises:
        ValueError: If it is not the result of `training`.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    found = TrainedPolicy(**{**stored, "training": Training(**stored["training"])})
    if training is not None and found.training != training:
        raise ValueError(f"{path} is of another training ({found.training}); give another folder, or remove it")
    return found


def load_policy(path: Path) -> BaseAlgorithm:
    """The policy of a result file, in Stable-Baselines3's own format."""
    found = read_policy(path)
    return ALGORITHMS[found.training.algo].load(path.parent / found.model, device="cpu")


def _returns_inside(policy: BaseAlgorithm, training: Training) -> np.ndarray[Any, np.dtype[np.float64]]:
    simulated = Training(training.agent, simulator=training.simulator, environment=training.environment)
    env = training_env(simulated, JUDGED)
    env.seed(training.seed + 1)
    returns, _ = evaluate_policy(policy, env, n_eval_episodes=TESTED, return_episode_rewards=True)
    return np.array(returns)


def _write(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, path)


class _Checkpoint(BaseCallback):
    """Keeps the policy, its optimiser and, off policy, the replay buffer on disk; the buffer as plain arrays."""

    def __init__(self, folder: Path, training: Training, every: float) -> None:
        super().__init__()
        self.judge: EvalCallback | None = None
        self.best, self.seconds = -np.inf, 0.0
        self._folder = folder / "checkpoint"
        self._training, self._every, self._last = training, every, time.monotonic()
        self._started = time.perf_counter()

    def start(self, env: VecEnv, tensorboard: str | None) -> BaseAlgorithm:
        """The algorithm, new or from the checkpoint."""
        algorithm = ALGORITHMS[self._training.algo]
        if not self._folder.exists():
            env.seed(self._training.seed)
            hyper = self._training.hyperparameters
            return algorithm(
                "MlpPolicy", env, seed=self._training.seed, tensorboard_log=tensorboard, device="cpu", **hyper
            )
        card = json.loads((self._folder / _CARD).read_text(encoding="utf-8"))
        if Training(**card["training"]) != self._training:
            raise ValueError(f"{self._folder} is of another training; give another folder, or remove it")
        self.best, self.seconds = card["best"], card["seconds"]
        env.seed(self._training.seed + card["steps"])
        model = algorithm.load(self._folder / _POLICY, env=env, device="cpu", tensorboard_log=tensorboard)
        if isinstance(model, OffPolicyAlgorithm) and model.replay_buffer is not None:
            with np.load(self._folder / _BUFFER) as stored:
                for name in stored.files:
                    value = stored[name]
                    setattr(model.replay_buffer, name, value if value.ndim else value.item())
        return model

    def save(self) -> None:
        """Replaces the checkpoint whole."""
        assert self.judge is not None
        new = self._folder.with_suffix(".partial")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        self.model.save(new / _POLICY)
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is not None:
            np.savez(new / _BUFFER, **{name: getattr(buffer, name) for name in _BUFFER_PARTS})
        seconds = self.seconds + time.perf_counter() - self._started
        card = {"training": asdict(self._training), "steps": self.model.num_timesteps, "seconds": seconds}
        _write(new / _CARD, {**card, "best": float(self.judge.best_mean_reward)})
        self.remove()
        os.replace(new, self._folder)

    def remove(self) -> None:
        """Removes the checkpoint of a finished training."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _on_step(self) -> bool:
        if time.monotonic() - self._last >= self._every:
            self.save()
            self._last = time.monotonic()
        return True
