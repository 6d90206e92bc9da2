"""Trains one policy; one result file an agent."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CallbackList, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy

from persim_gym.evaluation.acting import Policy, WithPast
from persim_gym.evaluation.returns import episode_returns
from persim_gym.extras import required
from persim_gym.policies.algorithm import trained_algorithm
from persim_gym.policies.checkpoint import Checkpoint, KeepBest, check_weights
from persim_gym.policies.config import ALGORITHMS, PolicyTraining, training_env, truth_of, with_defaults
from persim_gym.policies.preprocessing import normalized
from persim_gym.simulator.model.precision import in_default_precision
from persim_gym.simulator.registry import DEFAULT_SIMULATOR, load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.storage import CARD, from_plain, read_json, reading, replaceable, write_json

BEST_MODEL = "best_model.zip"
POLICY_CHECKPOINT_SECONDS = 60.0
JUDGINGS = 20
"""How often a policy is judged during training."""
JUDGED_EPISODES = 50
"""Episodes, side by side, that choose the best policy."""
TESTED_EPISODES = 100
"""Episodes of the returns that are reported at the end."""


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
    simulator: str | Path | Simulator = DEFAULT_SIMULATOR,
    agent: int | str = 17,
    algo: str = "ppo",
    steps: int | None = None,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    tensorboard: bool = False,
    force: bool = False,
    **settings: Any,
) -> TrainedPolicy:
    """Trains a policy for one agent inside a simulator, and tests it in the true environment where there is one.

    An interrupted training goes on from its checkpoint, a finished one is read from its file.

    Args:
        simulator: Name or path of a simulator, or one that is on disk.
        agent: Number or name of an agent of the simulator.
        algo: A key of `ALGORITHMS`.
        steps: Environment steps; None for the default of domain and algorithm.
        out: Folder: `agent-<n>.json` is the result, `agent-<n>/` holds the policy. By default
            `persim-out/policies/SIMULATOR-ALGO`.
        seed: Seed of the policy and its environments.
        progress: Whether to show a progress bar.
        tensorboard: Whether to write TensorBoard's logs into `<out>/tensorboard`.
        force: Whether to train anew, whatever is there.
        **settings: Further fields of `PolicyTraining`: `truth`, `n_envs`, `environment`, `hyperparameters`.

    Raises:
        ValueError: As `run_training`; or if the simulator is not on disk.
    """
    if isinstance(simulator, Simulator):
        if not (simulator.folder / CARD).is_file():
            raise ValueError(f"simulator {simulator.card.name} is not on disk; save it first: simulator.save()")
        simulator = simulator.folder
    name = str(simulator)
    training = PolicyTraining(
        load_simulator(name).agent_number(agent), algo, name, steps=steps or 0, seed=seed, **settings
    )
    return run_training(
        training, default_folder(name, algo) if out is None else Path(out), progress, tensorboard, force
    )


def default_folder(simulator: str, algo: str) -> Path:
    """Where policies go unless told otherwise."""
    return Path("persim-out/policies") / f"{simulator.strip('/').replace('/', '-')}-{algo}"


@in_default_precision
def run_training(
    training: PolicyTraining, out: str | Path, progress: bool = True, tensorboard: bool = False, force: bool = False
) -> TrainedPolicy:
    """Trains a policy; an interrupted training goes on from its checkpoint, a finished one is read from its file.

    During training the policy is judged `JUDGINGS` times by its return in the environment that it is trained in, and
    the best is kept. A training that goes on draws other random numbers than one that was not interrupted.

    Args:
        training: What to train.
        out: Folder: `agent-<n>.json` is the result, `agent-<n>/` holds the policy and, meanwhile, the checkpoint.
        progress: Whether to show a progress bar.
        tensorboard: Whether to write TensorBoard's logs into `<out>/tensorboard`.
        force: Whether to train anew, whatever is there.

    Raises:
        ValueError: As `with_defaults`; or if `out` holds another training of this agent.
    """
    if tensorboard:
        required("tensorboard", "tensorboard", "curves need TensorBoard")
    training, out = with_defaults(training), Path(out)
    folder, result = out / f"agent-{training.agent}", out / f"agent-{training.agent}.json"
    if result.exists() and not force:
        return read_policy(result, training)
    replaceable(result, sign="").unlink(missing_ok=True)
    checkpoint = Checkpoint(folder, training, POLICY_CHECKPOINT_SECONDS)
    if force:
        checkpoint.remove()
    seconds = _learn(training, checkpoint, folder, str(out / "tensorboard") if tensorboard else None, progress)
    trained = _tested(training, folder, seconds)
    write_json(result, asdict(trained))
    checkpoint.remove()
    return trained


def _learn(
    training: PolicyTraining, checkpoint: Checkpoint, folder: Path, tensorboard: str | None, progress: bool
) -> float:
    """Takes the steps of a training and keeps the best policy; returns its seconds, those before a break too."""
    env = normalized(training_env(training, training.n_envs), training.hyperparameters, learning=True)
    model = checkpoint.start(env, tensorboard)
    judge = EvalCallback(
        normalized(training_env(training, JUDGED_EPISODES), training.hyperparameters, learning=False),
        n_eval_episodes=JUDGED_EPISODES,
        eval_freq=max(training.steps // JUDGINGS // training.n_envs, 1),
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
    return checkpoint.seconds + time.perf_counter() - started


def _tested(training: PolicyTraining, folder: Path, seconds: float) -> TrainedPolicy:
    """Returns of the best policy in the simulator and, where there is one, in the true environment."""
    card = load_simulator(training.simulator).card
    best = trained_algorithm(training, folder / BEST_MODEL)
    inside = _returns_inside(best, training)
    truth, outside = truth_of(training), None
    if truth is not None:
        spec = load_simulator(training.simulator).spec
        acting: Policy = WithPast(best, spec.layout, spec.n_actions) if spec.layout.past else best
        outside = episode_returns(acting, truth, training.agent, episodes=TESTED_EPISODES, seed=training.seed + 1)
    return TrainedPolicy(
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


def read_policy(path: str | Path, training: PolicyTraining | None = None) -> TrainedPolicy:
    """Reads a result file.

    Args:
        path: The file.
        training: What it should be the result of; None for anything.

    Raises:
        ValueError: If it cannot be read, is not the result of `training`, or of training in other weights.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no policy {path}; give the agent-<n>.json that `persim train-policy` has written")
    with reading(path, "remove it to train the policy again"):
        found = from_plain(TrainedPolicy, read_json(path))
        if found.training.algo not in ALGORITHMS:
            raise ValueError(f"algorithm {found.training.algo!r} is not one of {', '.join(ALGORITHMS)}")
    if training is None:
        return found
    if found.training != training:
        stored, wanted = asdict(found.training), asdict(training)
        others = [f"{name} {stored[name]}, not {value}" for name, value in wanted.items() if stored[name] != value]
        raise ValueError(
            f"{path} is of another training ({'; '.join(others)}); --force trains anew, --out puts it elsewhere"
        )
    check_weights(path, training, found.simulator_sha256)
    return found


@in_default_precision
def load_policy(path: str | Path) -> BaseAlgorithm:
    """The policy of a result file, with the parameters of the file that Stable-Baselines3 saved it to.

    Raises:
        ValueError: If a file cannot be read, or does not hold a policy of the result's training.
        UnknownSimulatorError: If there is no simulator that it was trained in, whose spaces it has.
    """
    path = Path(path)
    found = read_policy(path)
    load_simulator(found.training.simulator)
    with reading(path.parent / found.model, f"remove it and {path.name} to train the policy again"):
        return trained_algorithm(found.training, path.parent / found.model)


def _returns_inside(policy: BaseAlgorithm, training: PolicyTraining) -> NDArray[np.float64]:
    simulated = PolicyTraining(training.agent, simulator=training.simulator, environment=training.environment)
    env = training_env(simulated, JUDGED_EPISODES)
    env.seed(training.seed + 1)
    returns, _ = evaluate_policy(policy, env, n_eval_episodes=TESTED_EPISODES, return_episode_rewards=True)
    return np.array(returns)
