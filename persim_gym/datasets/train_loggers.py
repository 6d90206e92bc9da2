"""Trains the logging and test policies with Stable-Baselines3, each only up to its threshold reward.

The thesis logs with sub-optimal policies, so training stops at the first evaluation that reaches the threshold.
"""

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from tqdm import tqdm

from persim_gym.datasets.behaviour import (
    TEST,
    Layers,
    PolicyCard,
    PolicyNetwork,
    policy_covariates,
    policy_names,
    save_policy,
)
from persim_gym.envs import DOMAINS
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluate import episode_returns
from persim_gym.home import persim_home

Learner: TypeAlias = DQN | SAC | TD3
Band: TypeAlias = tuple[float, float | None]
"""Mean returns (low, high) at which training stops; None: however high."""

CONFIRM_EPISODES = 100
EVALUATION_SEED = 7_001
CONFIRM_SEED = 7_002  # other initial states than those that triggered the stop
_BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Recipe:
    """How the policies of a domain are trained.

    Attributes:
        algorithm: DQN, TD3 or SAC.
        hyperparameters: Keywords of the algorithm; JSON-plain.
        logger: Where the loggers stop, thesis section 5.1.2.
        test: Where the test policy stops, thesis appendix B.1.
        max_steps: Give up after this many environment steps; DQN's exploration schedule is relative to it.
        evaluate_every: Environment steps between evaluations.
        episodes: Episodes of an evaluation.
        action_noise: Standard deviation of the exploration noise of TD3.
    """

    algorithm: str
    hyperparameters: Mapping[str, Any]
    logger: Band
    test: Band
    max_steps: int
    evaluate_every: int
    episodes: int = 20
    action_noise: float | None = None


_DQN = {"learning_rate": 1e-3, "batch_size": 128, "gamma": 0.99, "policy_kwargs": {"net_arch": [256, 256]}}
_TD3 = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "tau": 0.005,
    "target_policy_noise": 0.2,
    "target_noise_clip": 0.5,
    "policy_delay": 2,
    "policy_kwargs": {"net_arch": [256, 256]},
}

_SAC = {
    "learning_rate": 3e-4,
    "batch_size": 256,
    "gamma": 0.99,
    "buffer_size": 500_000,
    "policy_kwargs": {"net_arch": [256, 256]},
}

RECIPES: dict[str, Recipe] = {
    # Beyond `_DQN` the thesis is silent; these keep the value function stable enough to stop near a threshold.
    "mountaincar": Recipe(
        "DQN",
        _DQN
        | {
            "train_freq": 16,
            "gradient_steps": 8,
            "target_update_interval": 600,
            "learning_starts": 1_000,
            "buffer_size": 50_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.07,
        },
        logger=(-200.0, None),
        test=(-150.0, None),
        max_steps=300_000,
        evaluate_every=2_000,
    ),
    "cartpole": Recipe(
        "DQN",
        _DQN
        | {
            "train_freq": 4,
            "gradient_steps": 2,
            "target_update_interval": 250,
            "learning_starts": 1_000,
            "buffer_size": 50_000,
            "exploration_fraction": 0.2,
            "exploration_final_eps": 0.05,
        },
        logger=(110.0, 135.0),
        test=(150.0, 165.0),
        max_steps=100_000,
        evaluate_every=250,
    ),
    "halfcheetah": Recipe(
        "TD3",
        _TD3 | {"learning_starts": 10_000, "buffer_size": 1_000_000, "train_freq": 2, "gradient_steps": 1},
        logger=(3_000.0, None),
        test=(4_000.0, None),
        max_steps=1_000_000,
        evaluate_every=5_000,
        episodes=10,
        action_noise=0.1,
    ),
    # Beyond the thesis: levels of our choice, well above random and well below solved.
    "pendulum": Recipe(
        "SAC",
        _SAC | {"learning_rate": 1e-3, "learning_starts": 500},
        logger=(-400.0, None),
        test=(-200.0, None),
        max_steps=50_000,
        evaluate_every=500,
    ),
    "walker2d": Recipe(
        "SAC",
        _SAC | {"learning_starts": 5_000},
        logger=(300.0, None),
        test=(1_000.0, None),
        max_steps=500_000,
        evaluate_every=2_500,
        episodes=10,
    ),
}


def make_learner(recipe: Recipe, domain: str, covariates: Mapping[str, float], seed: int) -> Learner:
    """An untrained learner in the true environment of one agent."""
    named: dict[str, Any] = dict(covariates)
    env = gym.make(f"persim_gym:{domain_of(domain).env_id}", **named)
    keywords: dict[str, Any] = {**recipe.hyperparameters, "seed": seed, "device": "cpu"}
    if recipe.algorithm == "DQN":
        return DQN("MlpPolicy", env, **keywords)
    if recipe.algorithm == "TD3":
        if recipe.action_noise is not None:
            zero = np.zeros(gym.spaces.flatdim(domain_of(domain).action_space), dtype=np.float32)
            keywords["action_noise"] = NormalActionNoise(zero, zero + recipe.action_noise)
        return TD3("MlpPolicy", env, **keywords)
    if recipe.algorithm == "SAC":
        return SAC("MlpPolicy", env, **keywords)
    raise ValueError(f"unknown algorithm {recipe.algorithm!r}; known: DQN, SAC, TD3")


def greedy_layers(learner: Learner) -> Layers:
    """Weights of a learner's greedy policy: the Q network (DQN), the actor (TD3) or the actor's mean (SAC)."""
    if isinstance(learner, DQN):
        network = learner.policy.q_net.q_net
    elif isinstance(learner, TD3):
        network = learner.policy.actor.mu
    else:
        network = torch.nn.Sequential(*learner.policy.actor.latent_pi, learner.policy.actor.mu)
    return tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )


def save_checkpoint(learner: Learner, seconds: float, path: Path) -> None:
    """Writes all that training needs to go on; the file is complete or absent."""
    buffer = learner.replay_buffer
    assert buffer is not None
    size = buffer.buffer_size if buffer.full else buffer.pos
    state = {
        "parameters": learner.get_parameters(),
        "buffer": {name: torch.from_numpy(getattr(buffer, name)[:size].copy()) for name in _BUFFER_ARRAYS},
        "position": buffer.pos,
        "full": buffer.full,
        "counters": {name: getattr(learner, name, 0) for name in ("num_timesteps", "_n_updates", "_n_calls")},
        "seconds": seconds,
    }
    if isinstance(learner, SAC) and learner.log_ent_coef is not None:  # no parameter in SB3's sense
        state["log_ent_coef"] = learner.log_ent_coef.detach().clone()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(state, scratch)
    os.replace(scratch, path)


def load_checkpoint(learner: Learner, seed: int, path: Path) -> float:
    """Continues a learner from a checkpoint; the environment starts a new episode.

    Args:
        learner: A fresh learner of the same recipe.
        seed: Seed of the training; exploration goes on from a stream of its own.
        path: The checkpoint. Read as plain tensors, no code in it is run.

    Returns:
        Seconds of training so far.
    """
    state = torch.load(path, weights_only=True)
    learner.set_parameters(state["parameters"])
    buffer = learner.replay_buffer
    assert buffer is not None
    for name, values in state["buffer"].items():
        getattr(buffer, name)[: len(values)] = values.numpy()
    buffer.pos, buffer.full = state["position"], state["full"]
    for name, value in state["counters"].items():
        setattr(learner, name, value)
    if isinstance(learner, SAC) and learner.log_ent_coef is not None:
        learner.log_ent_coef.data.copy_(state["log_ent_coef"])
    learner.set_random_seed(seed + learner.num_timesteps)
    return float(state["seconds"])


def in_band(value: float, band: Band) -> bool:
    """Whether a mean return is where training stops."""
    return value >= band[0] and (band[1] is None or value <= band[1])


class _StopInBand(BaseCallback):
    """Evaluates the greedy policy every so often, saves checkpoints, and stops training in the band."""

    def __init__(
        self, recipe: Recipe, card: "partial[PolicyCard]", band: Band, bar: "tqdm[Any]", path: Path, spent: float
    ) -> None:
        super().__init__()
        self.recipe, self.card, self.band, self.bar, self.path = recipe, card, band, bar, path
        self.started = time.monotonic() - spent
        self.accepted: tuple[Layers, PolicyCard] | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def save(self) -> None:
        assert isinstance(self.model, DQN | SAC | TD3)
        save_checkpoint(self.model, self.seconds, self.path)

    def _on_step(self) -> bool:
        if self.num_timesteps % self.recipe.evaluate_every == 0:
            self.bar.update(self.num_timesteps - self.bar.n)
            if self.num_timesteps > self.recipe.hyperparameters["learning_starts"]:
                self._evaluate()
        if self.num_timesteps % (4 * self.recipe.evaluate_every) == 0:
            self.save()
        return self.accepted is None

    def _evaluate(self) -> None:
        assert isinstance(self.model, DQN | SAC | TD3)
        domain, covariates = domain_of(self.card.keywords["domain"]), self.card.keywords["covariates"]
        layers = greedy_layers(self.model)
        policy = PolicyNetwork(layers, domain.action_space)
        returns = episode_returns(policy, domain, episodes=self.recipe.episodes, seed=EVALUATION_SEED, **covariates)
        self.bar.set_postfix({"return": f"{returns.mean():.1f}", "stops at": f"{self.band[0]:g}"})
        if not in_band(float(returns.mean()), self.band):
            return
        returns = episode_returns(policy, domain, episodes=CONFIRM_EPISODES, seed=CONFIRM_SEED, **covariates)
        if in_band(float(returns.mean()), self.band):
            self.accepted = (
                layers,
                self.card(
                    steps=self.num_timesteps,
                    seconds=round(self.seconds, 1),
                    mean_return=round(float(returns.mean()), 3),
                    std_return=round(float(returns.std()), 3),
                    episodes=CONFIRM_EPISODES,
                ),
            )


def train_policy(
    domain: str,
    name: str,
    seed: int = 0,
    root: Path | None = None,
    recipe: Recipe | None = None,
    progress: bool = True,
) -> Path:
    """Trains one policy up to its threshold and saves it; goes on from where an interrupted call stopped.

    An unfinished training is kept in `$PERSIM_HOME/training/<domain>/<name>-seed<seed>`, saved every four
    evaluations and on Ctrl-C.

    Args:
        domain: Name of the domain.
        name: `logger-0` … or `test`.
        seed: Seed of the training; a logger of the default agent adds 1, or it would be the test policy's own run.
        root: Folder of all policies; None for `$PERSIM_HOME/policies`.
        recipe: How to train; None for the domain's own.
        progress: Whether to show a progress bar.

    Returns:
        Folder of the policy.

    Raises:
        ValueError: If there is no such policy, or no recipe for the domain.
        RuntimeError: If the threshold is not reached in the recipe's steps.
    """
    covariates = policy_covariates(domain, name)
    if recipe is None:
        if domain not in RECIPES:
            raise ValueError(f"no recipe for the policies of {domain}; give one, or a domain of {', '.join(RECIPES)}")
        recipe = RECIPES[domain]
    if name != TEST and covariates == policy_covariates(domain, TEST):
        seed += 1
    band = recipe.test if name == TEST else recipe.logger
    noise = {} if recipe.action_noise is None else {"action_noise": recipe.action_noise}
    card = partial(
        PolicyCard,
        domain=domain,
        name=name,
        algorithm=recipe.algorithm,
        hyperparameters={**recipe.hyperparameters, **noise},
        covariates=covariates,
        threshold=band,
        seed=seed,
        versions={p: version(p) for p in ("gymnasium", "numpy", "stable-baselines3", "torch")},
    )
    path = persim_home() / "training" / domain / f"{name}-seed{seed}" / "checkpoint.pt"
    learner = make_learner(recipe, domain, covariates, seed)
    spent = load_checkpoint(learner, seed, path) if path.is_file() else 0.0
    with _progress_bar(f"{domain}/{name}", recipe.max_steps, learner.num_timesteps, progress) as bar:
        watch = _StopInBand(recipe, card, band, bar, path, spent)
        try:
            learner.learn(recipe.max_steps - learner.num_timesteps, watch, reset_num_timesteps=False)
        except KeyboardInterrupt:
            watch.save()
            bar.write(f"saved {path} at step {learner.num_timesteps}; the same command goes on from there")
            raise
    if watch.accepted is None:
        raise RuntimeError(
            f"{domain}/{name} did not reach {band[0]} within {recipe.max_steps} steps; remove {path.parent}, "
            "then try another seed"
        )
    folder = save_policy(*watch.accepted, root)
    shutil.rmtree(path.parent, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _progress_bar(title: str, total: int, initial: int, shown: bool) -> "Iterator[tqdm[Any]]":
    with tqdm(desc=title, total=total, initial=initial, unit="step", disable=not shown, mininterval=1.0) as bar:
        yield bar


def train_loggers(
    domains: Sequence[str], names: Sequence[str] | None = None, seed: int = 0, root: Path | None = None
) -> list[Path]:
    """Trains policies one after the other; those that `root` already holds are skipped, unfinished ones go on.

    Args:
        domains: Names of domains.
        names: Names of policies; None for all of each domain.
        seed: Seed of every training.
        root: Folder of all policies; None for `$PERSIM_HOME/policies`.

    Returns:
        Folders of the policies.
    """
    folders = []
    for domain in domains:
        for name in policy_names(domain) if names is None else names:
            folder = (persim_home() / "policies" if root is None else root) / domain / name
            if (folder / "card.json").is_file():
                tqdm.write(f"{folder} is there already; remove it to train it again")
            else:
                folder = train_policy(domain, name, seed, root)
                tqdm.write(f"{folder} trained")
            folders.append(folder)
    return folders


def main() -> None:
    """Command line of `train_loggers`."""
    parser = argparse.ArgumentParser(description=main.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--domain", action="append", choices=list(DOMAINS), required=True)
    parser.add_argument("--name", action="append", help="logger-0 … or test; all if left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of all policies; $PERSIM_HOME/policies if left out")
    given = parser.parse_args()
    torch.set_num_threads(1)  # the networks are too small to share between threads
    train_loggers(given.domain, given.name, given.seed, given.root)


if __name__ == "__main__":
    main()
