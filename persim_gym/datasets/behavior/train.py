"""Trains the logging and test policies with Stable-Baselines3, each only up to its threshold reward.

The thesis logs with sub-optimal policies, so training stops at the first evaluation that reaches the threshold.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from persim_gym.datasets.behavior.learner import greedy_layers, load_checkpoint, make_learner, save_checkpoint
from persim_gym.datasets.behavior.policies import (
    TEST,
    NetworkLayers,
    PolicyCard,
    PolicyNetwork,
    policy_covariates,
    policy_names,
    save_behavior_policy,
)
from persim_gym.envs import DOMAINS
from persim_gym.envs.behavior import Band, BehaviorConfig, in_band
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluation.returns import episode_returns
from persim_gym.extras import brought_by
from persim_gym.paths import persim_home
from persim_gym.simulator.model.precision import in_default_precision

with brought_by("sb3", "training logging policies needs Stable-Baselines3"):
    from stable_baselines3 import DQN, SAC, TD3
    from stable_baselines3.common.callbacks import BaseCallback

CONFIRM_EPISODES = 100
EVALUATION_SEED = 7_001
CONFIRM_SEED = 7_002  # A stop is confirmed from other initial states than those that triggered it.


class _StopInBand(BaseCallback):
    """Evaluates the greedy policy every so often, saves checkpoints, and stops training in the band."""

    def __init__(
        self,
        recipe: BehaviorConfig,
        card: "partial[PolicyCard]",
        band: Band,
        bar: "tqdm[Any]",
        path: Path,
        spent: float,
    ) -> None:
        super().__init__()
        self.recipe, self.card, self.band, self.bar, self.path = recipe, card, band, bar, path
        self.started = time.monotonic() - spent
        self.accepted: tuple[NetworkLayers, PolicyCard] | None = None

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


@in_default_precision
def train_behavior_policy(
    domain: str,
    name: str,
    seed: int = 0,
    root: Path | None = None,
    recipe: BehaviorConfig | None = None,
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
    recipe = recipe or _own_recipe(domain)
    if name != TEST and covariates == policy_covariates(domain, TEST):
        seed += 1
    band = recipe.test if name == TEST else recipe.logger
    card = partial(_card_of, recipe, domain=domain, name=name, covariates=covariates, threshold=band, seed=seed)
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
    folder = save_behavior_policy(*watch.accepted, root)
    shutil.rmtree(path.parent, ignore_errors=True)
    return folder


def _card_of(recipe: BehaviorConfig, **others: Any) -> PolicyCard:
    """The card of a policy trained by a recipe."""
    noise = {} if recipe.action_noise is None else {"action_noise": recipe.action_noise}
    return PolicyCard(
        algorithm=recipe.algorithm,
        hyperparameters={**recipe.hyperparameters, **noise},
        versions={p: version(p) for p in ("gymnasium", "numpy", "stable-baselines3", "torch")},
        **others,
    )


def _own_recipe(domain: str) -> BehaviorConfig:
    """How a domain trains its policies."""
    recipe = domain_of(domain).behavior
    if domain_of(domain).rule is not None:
        raise ValueError(f"{domain} logs by a rule: there is nothing to train; build its datasets as they are")
    if recipe is None:
        known = ", ".join(name for name, other in DOMAINS.items() if other.behavior)
        raise ValueError(f"no recipe for the policies of {domain}; give one, or a domain of {known}")
    return recipe


@contextlib.contextmanager
def _progress_bar(title: str, total: int, initial: int, shown: bool) -> "Iterator[tqdm[Any]]":
    with tqdm(desc=title, total=total, initial=initial, unit="step", disable=not shown, mininterval=1.0) as bar:
        yield bar


def train_behavior_policies(
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
                folder = train_behavior_policy(domain, name, seed, root)
                tqdm.write(f"{folder} trained")
            folders.append(folder)
    return folders
