"""What is trained, where and how, with the defaults of each algorithm and domain."""

import inspect
from dataclasses import dataclass, field, fields
from typing import Any

from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from persim_gym.envs import Domain
from persim_gym.envs.hetero import domain_of
from persim_gym.policies.preprocessing import NORMALIZE, SCALE
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.registry import DEFAULT_SIMULATOR, load_simulator
from persim_gym.suggest import suggestion

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "dqn": DQN, "sac": SAC, "td3": TD3}
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


@dataclass(frozen=True)
class PolicyTraining:
    """What is trained, where and how; equal values, the same training.

    Attributes:
        agent: The agent.
        algo: A key of `ALGORITHMS`.
        simulator: Name or path of the simulator; with `truth`, it only names the domain.
        truth: Whether to train in the true environment instead.
        steps: Environment steps.
        n_envs: Rows stepped at once.
        seed: Seed of the policy and its environments.
        environment: Keywords of `PersimEnv`: member, penalty, halt, starts.
        hyperparameters: Of the algorithm; and `scale_observations`, by which the policy sees bounded observations as
            numbers in [-1, 1], and `normalize_reward`, which divides rewards by the running spread of returns.
    """

    agent: int
    algo: str = "ppo"
    simulator: str = DEFAULT_SIMULATOR
    truth: bool = False
    steps: int = 0
    n_envs: int = 0
    seed: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)


def with_defaults(training: PolicyTraining) -> PolicyTraining:
    """Fills defaults in: those of the algorithm, then of the domain, then the caller's.

    Raises:
        UnknownSimulatorError: If there is no such simulator.
        ValueError: If the algorithm is unknown or does not fit the simulator's actions, or a true environment is asked
            for where there is none.
    """
    if training.algo not in ALGORITHMS:
        raise ValueError(f"no algorithm {training.algo!r}; {suggestion(training.algo, ALGORITHMS)}")
    simulator = load_simulator(training.simulator)
    card, space = simulator.card, simulator.action_space
    if training.truth:
        _known_truth(training)
    kinds = {spaces.Discrete: ("ppo", "dqn"), spaces.MultiDiscrete: ("ppo",), spaces.Box: ("ppo", "sac", "td3")}
    fitting = next(algorithms for kind, algorithms in kinds.items() if isinstance(space, kind))
    if training.algo not in fitting:
        use = f"one of {', '.join(fitting)}" if len(fitting) > 1 else fitting[0]
        raise ValueError(f"{training.algo} does not fit {card.domain or card.name}'s {space}; use {use}")
    settings = domain_of(card.domain).policy_settings if card.domain else {}
    known = {**_DEFAULTS[training.algo], **settings.get(training.algo, {})}
    _check_settings(training)
    hyper = {k: v for k, v in known.items() if k not in ("steps", "n_envs")} | training.hyperparameters
    return PolicyTraining(
        **{
            **{f.name: getattr(training, f.name) for f in fields(training)},
            "steps": training.steps or known["steps"],
            "n_envs": training.n_envs or known["n_envs"],
            "hyperparameters": hyper,
        }
    )


def _check_settings(training: PolicyTraining) -> None:
    """Refuses hyperparameters that the algorithm does not have, and words for numbers."""
    known = inspect.signature(ALGORITHMS[training.algo]).parameters
    for name, value in training.hyperparameters.items():
        if name not in (*known, SCALE, NORMALIZE):
            raise ValueError(f"{training.algo} has no setting {name!r}; {suggestion(name, [*known, SCALE, NORMALIZE])}")
        usual = known[name].default if name in known else True
        if isinstance(usual, int | float) and isinstance(value, str):
            raise ValueError(f"{training.algo}'s {name} cannot be {value!r}; its default is {usual}")


def truth_of(training: PolicyTraining) -> Domain | None:
    """The domain in which the agent lives; None for data of no domain, and for agents outside the population."""
    name = load_simulator(training.simulator).card.domain
    if not name or training.agent >= len(domain_of(name).population):
        return None
    return domain_of(name)


def _known_truth(training: PolicyTraining) -> Domain:
    truth = truth_of(training)
    if truth is None:
        raise ValueError(
            f"agent {training.agent} of simulator {training.simulator} has no true environment here to train in: its "
            "data is of no domain, or it is none of the population's agents; train inside the simulator"
        )
    return truth


def training_env(training: PolicyTraining, rows: int) -> VecEnv:
    """The environment of a training, with `rows` rows; true or simulated."""
    if training.truth:
        return VecMonitor(make_vec_env(_known_truth(training).env_id, agent=training.agent, n_envs=rows))
    keywords = {"simulator": training.simulator, **training.environment}
    names = load_simulator(training.simulator).labels.agents  # A name, unlike a number, is never another agent's name.
    agent = names[training.agent] if training.agent < len(names) else training.agent
    return VecMonitor(make_vec_env(agent=agent, n_envs=rows, **keywords))
