"""Collects one logged episode an agent and writes it as a Minari dataset."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.storage import get_dataset_path
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.datasets.behavior.policies import (
    PolicyNetwork,
    closest_logger,
    load_behavior_policy,
    with_random_actions,
)
from persim_gym.datasets.behavior.rules import RulePolicy
from persim_gym.datasets.minari_files import make_namespaces
from persim_gym.datasets.registry import DatasetSpec
from persim_gym.envs import Domain
from persim_gym.evaluation.acting import Policy, RandomPolicy, act
from persim_gym.extras import version_of
from persim_gym.storage import scratch_folder
from persim_gym.transitions import Transitions
from persim_gym.version import __version__

LIBRARIES = ("gymnasium", "minari", "mujoco", "numpy")
"""Libraries that decide what data are; MuJoCo decides those of robots, and may be missing elsewhere."""


@dataclass(frozen=True)
class EpsilonGreedy:
    """Logging policies, some of whose actions are replaced by random ones.

    Attributes:
        policy: The logging policies of all agents.
        action_space: Space of one action.
        epsilon: Probability of a uniformly random action.
        rng: Source of randomness.
    """

    policy: Policy
    action_space: spaces.Discrete | spaces.Box
    epsilon: float
    rng: np.random.Generator

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], Any]:
        """Actions of all agents, [N] or [N, A]; as `Policy`."""
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        return with_random_actions(actions, self.action_space, self.epsilon, self.rng), state


def collect_episodes(
    domain: Domain, epsilon: float, logging: Policy | None, rng: np.random.Generator, progress: bool = True
) -> list[EpisodeBuffer]:
    """Runs one episode of every agent of the population, all agents in step.

    Args:
        domain: The domain.
        epsilon: Probability of a uniformly random action.
        logging: The logging policies of all agents, such as `Loggers`; needed when epsilon < 1.
        rng: Source of all randomness.
        progress: Whether to show a progress bar.

    Returns:
        One episode an agent in the order of the population; `options["agent"]` holds the agent, and so do the `infos`
        of every step, which alone are left when Minari combines datasets.

    Source: thesis section 5.1.2.
    """
    policy: Policy = RandomPolicy(domain.action_space, rng)
    if epsilon < 1.0:
        if logging is None:
            raise ValueError("epsilon < 1 needs logging policies; pass logging")
        policy = EpsilonGreedy(logging, domain.action_space, epsilon, rng)
    agents, limit = len(domain.population), domain.episode_steps
    state = domain.initial_state(rng, agents)
    columns = {c.name: domain.population[:, i] for i, c in enumerate(domain.covariates)}
    physics, running = domain.physics(**columns), np.arange(agents)

    def advance(state: NDArray[np.float64], action: NDArray[Any]) -> NDArray[np.float64]:
        following = state.copy()
        following[running] = physics(state[running], action[running])
        return following

    lengths, alive = np.zeros(agents, dtype=np.int64), np.ones(agents, dtype=np.bool_)
    log: dict[str, list[NDArray[Any]]] = {"obs": [domain.observe(state)], "action": [], "reward": [], "terminated": []}
    acting = act(policy, domain, advance, state, limit)
    for step in tqdm(acting, total=limit, desc=f"{domain.name}: {agents} agents", unit="step", disable=not progress):
        log["action"].append(step.action)
        log["reward"].append(domain.task.reward(step.obs, step.action, step.next_obs))
        log["terminated"].append(step.terminated)
        log["obs"].append(step.next_obs)
        lengths += alive
        alive &= ~step.terminated
        if not alive.any():
            break
        if 2 * alive.sum() < len(running):  # Finished agents are left out now and then: new physics takes a while.
            running = np.flatnonzero(alive)
            physics = domain.physics(**{name: column[running] for name, column in columns.items()})
    stacked = {name: np.stack(values, axis=1) for name, values in log.items()}  # [N, T(+1), ...]
    return [_episode(stacked, agent, int(length), limit) for agent, length in enumerate(lengths)]


def _episode(log: dict[str, NDArray[Any]], agent: int, steps: int, cap: int) -> EpisodeBuffer:
    terminated = log["terminated"][agent, :steps]
    truncated = np.zeros(steps, dtype=np.bool_)
    truncated[-1] = steps == cap and not terminated[-1]
    return EpisodeBuffer(
        id=agent,
        options={"agent": agent},
        infos={"agent": np.full(steps + 1, agent, dtype=np.int32)},
        observations=log["obs"][agent, : steps + 1].astype(np.float32),
        actions=log["action"][agent, :steps],
        rewards=log["reward"][agent, :steps],
        terminations=terminated,
        truncations=truncated,
    )


@dataclass(frozen=True, eq=False)
class Loggers:
    """The logging policies of a population.

    Attributes:
        closest: Index of each agent's policy, the one trained on the training agent closest to it, int64 [N].
        policies: The policies that some agent needs, by index.
    """

    closest: NDArray[np.int64]
    policies: dict[int, PolicyNetwork]

    def predict(
        self, observation: Any, state: None = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], None]:
        """Actions of all agents' policies, [N] or [N, A], for the agents' observations, [N, D]; as `Policy`."""
        space = next(iter(self.policies.values())).action_space
        actions = np.empty((len(observation), *(space.shape or ())), dtype=space.dtype)
        for index, policy in self.policies.items():
            actions[self.closest == index] = policy.predict(observation[self.closest == index])[0]
        return actions, None

    def records(self) -> list[dict[str, Any]]:
        """What a dataset's metadata keep of each policy; JSON-plain."""
        kept = ("name", "algorithm", "covariates", "steps", "mean_return", "std_return", "episodes", "sha256")
        records = []
        for index, policy in self.policies.items():
            assert policy.card is not None
            card = asdict(policy.card)
            records.append({key: card[key] for key in kept} | {"agents": int((self.closest == index).sum())})
        return records


def closest_loggers(domain: Domain) -> Loggers:
    """The logging policies of all agents: each acts as the one trained on the training agent closest to it.

    Raises:
        MissingPolicyError: If one has not been trained.

    Source: thesis section 5.1.2.
    """
    names = [c.name for c in domain.covariates]
    closest = np.array([closest_logger(domain.name, dict(zip(names, c, strict=True))) for c in domain.population])
    return Loggers(closest, {int(i): load_behavior_policy(domain.name, f"logger-{i}") for i in np.unique(closest)})


def logging_policy(spec: DatasetSpec) -> tuple[Policy | None, list[dict[str, Any]]]:
    """What acts for all agents where actions are not random, and what a dataset's metadata keep of it.

    Raises:
        MissingPolicyError: If a policy has not been trained.
    """
    if spec.epsilon == 1.0:
        return None, []
    if spec.domain.rule is None:
        loggers = closest_loggers(spec.domain)
        return loggers, loggers.records()
    columns = {c.name: spec.domain.population[:, i] for i, c in enumerate(spec.domain.covariates)}
    return RulePolicy(spec.domain.rule, columns, np.random.default_rng([*spec.seed, 1])), []


def build(spec: DatasetSpec, progress: bool = True) -> Path:
    """Builds a dataset where Minari keeps its datasets; leaves an existing one alone.

    Written beside its final place and renamed at the end, so that an interrupted build leaves nothing behind that
    could be taken for a dataset.

    Args:
        spec: What to build.
        progress: Whether to show a progress bar.

    Returns:
        The dataset's folder.

    Raises:
        MissingPolicyError: If it needs a logging policy that has not been trained.
        ValueError: If it cannot be written, as where the disk is full.
    """
    target: Path = get_dataset_path(spec.dataset_id)
    if target.exists():
        return target
    policy, records = logging_policy(spec)
    episodes = collect_episodes(spec.domain, spec.epsilon, policy, spec.rng(), progress)
    metadata = _metadata(spec, episodes, records)
    make_namespaces(spec.dataset_id)
    with scratch_folder(target) as scratch:
        folder = scratch / "dataset"
        folder.mkdir()
        storage = MinariStorage.new(
            folder / "data",
            observation_space=spec.domain.observation_space,
            action_space=spec.domain.action_space,
            env_spec=gym.spec(spec.domain.env_id),
        )
        storage.update_metadata(metadata)
        storage.update_episodes(episodes)
        storage.update_episode_metadata([{"agent": e.id} for e in episodes], range(len(episodes)))
        try:
            folder.rename(target)
        except OSError:  # another process was faster; its dataset is the same
            if not target.exists():
                raise
    return target


def _metadata(spec: DatasetSpec, episodes: Sequence[EpisodeBuffer], loggers: list[dict[str, Any]]) -> dict[str, Any]:
    """What is recorded beside the episodes; JSON-plain, or Minari could not read the dataset."""
    transitions = Transitions.from_episodes(episodes, [e.id for e in episodes], spec.dataset_id)
    policy = "uniformly random actions" if spec.epsilon == 1.0 else f"the policy {spec.policy}"
    return {
        "dataset_id": spec.dataset_id,
        "minari_version": version_of("minari"),
        "author": {"The persim_gym developers"},
        "algorithm_name": spec.policy,
        "description": (
            f"{len(spec.domain.population)} agents of {spec.domain.env_id}, one episode each under {policy}; "
            "episode metadata holds the agent."
        ),
        "requirements": [f"persim-gym=={__version__}"],
        "content_hash": transitions.content_hash(),
        "epsilon": spec.epsilon,
        "seed": spec.seed,
        "loggers": loggers,
        "mean_return": float(np.mean([np.sum(e.rewards) for e in episodes])),
        "license": "MIT",
        "libraries": {name: found for name in LIBRARIES if (found := version_of(name))},
        "python": platform.python_version(),
    }
