"""Trains one policy; one result file an agent."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy

from persim_gym.evaluation.returns import episode_returns
from persim_gym.policies.checkpoint import Checkpoint, KeepBest, check_weights
from persim_gym.policies.config import ALGORITHMS, PolicyTraining, training_env, truth_of, with_defaults
from persim_gym.policies.preprocessing import normalized
from persim_gym.simulator.registry import load_simulator
from persim_gym.storage import read_json, reading, replaceable, write_json

BEST_MODEL = "best_model.zip"
CHECKPOINT_SECONDS = 60.0
TIMES = 20  # that a policy is judged during training
JUDGED = 50  # episodes, side by side, that choose the best policy
TESTED = 100  # episodes of the returns reported at the end


@dataclass(frozen=True)
class TrainedPolicy:
    """What a training brought.

    Attributes:
        training: What was trained, all defaults filled in.
        domain: Name of the domain; empty where the simulator's data is of none of ours.
        simulator_sha256: Of the simulator's weights.
        simulator_return: Mean return in the simulator.
        simulator_std: Its standard deviation over episodes.
        true_return: Mean return in the true environment; None where there is none (see `truth_of`).
        true_std: Its standard deviation over episodes; likewise.
        seconds: Wall-clock time of the training.
        model: File of the policy, relative to the result's folder.
    """

    training: PolicyTraining
    domain: str
    simulator_sha256: str
    simulator_return: float
    simulator_std: float
    true_return: float | None
    true_std: float | None
    seconds: float
    model: str


def train_policy(
    training: PolicyTraining,
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
        ValueError: As `with_defaults`; or if `out` holds another training of this agent.
    """
    training = with_defaults(training)
    card = load_simulator(training.simulator).card
    folder, result = out / f"agent-{training.agent}", out / f"agent-{training.agent}.json"
    if result.exists():
        return read_policy(result, training)
    replaceable(result, sign="")
    checkpoint = Checkpoint(folder, training, checkpoint_seconds)
    env = normalized(training_env(training, training.n_envs), training.hyperparameters, learning=True)
    model = checkpoint.start(env, str(out / "tensorboard") if tensorboard else None)
    judge = EvalCallback(
        normalized(training_env(training, JUDGED), training.hyperparameters, learning=False),
        n_eval_episodes=JUDGED,
        eval_freq=max(training.steps // TIMES // training.n_envs, 1),
        callback_on_new_best=KeepBest(folder / BEST_MODEL),
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
    best = ALGORITHMS[training.algo].load(folder / BEST_MODEL, device="cpu")
    inside = _returns_inside(best, training)
    truth, outside = truth_of(training), None
    if truth is not None:
        outside = episode_returns(best, truth, training.agent, episodes=TESTED, seed=training.seed + 1)
    trained = TrainedPolicy(
        training=training,
        domain=card.domain,
        simulator_sha256=card.sha256,
        simulator_return=float(inside.mean()),
        simulator_std=float(inside.std()),
        true_return=None if outside is None else float(outside.mean()),
        true_std=None if outside is None else float(outside.std()),
        seconds=round(seconds, 1),
        model=f"{folder.name}/{BEST_MODEL}",
    )
    write_json(result, asdict(trained))
    checkpoint.remove()
    return trained


def read_policy(path: Path, training: PolicyTraining | None = None) -> TrainedPolicy:
    """Reads a result file.

    Args:
        path: The file.
        training: What it should be the result of; None for anything.

    Raises:
        ValueError: If it cannot be read, is not the result of `training`, or of training in other weights.
    """
    with reading(path, "remove it to train the policy again"):
        stored = read_json(path)
        found = TrainedPolicy(**{**stored, "training": PolicyTraining(**stored["training"])})
    if training is None:
        return found
    if found.training != training:
        raise ValueError(f"{path} is of another training ({found.training}); give another folder, or remove it")
    check_weights(path, training, found.simulator_sha256)
    return found


def load_policy(path: Path) -> BaseAlgorithm:
    """The policy of a result file, in Stable-Baselines3's own format."""
    found = read_policy(path)
    return ALGORITHMS[found.training.algo].load(path.parent / found.model, device="cpu")


def _returns_inside(policy: BaseAlgorithm, training: PolicyTraining) -> NDArray[np.float64]:
    simulated = PolicyTraining(training.agent, simulator=training.simulator, environment=training.environment)
    env = training_env(simulated, JUDGED)
    env.seed(training.seed + 1)
    returns, _ = evaluate_policy(policy, env, n_eval_episodes=TESTED, return_episode_rewards=True)
    return np.array(returns)
