"""Latent factors in closed form: of agents that training never saw, and a last polish of those that it did."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from persim_gym.simulator.inference.posterior import FactorPosterior, FactorPrior
from persim_gym.simulator.inference.sufficient_statistics import SufficientStatistics
from persim_gym.simulator.model.ensemble import SMALLEST_STD, FactoredEnsemble
from persim_gym.simulator.model.walls import stopped
from persim_gym.transitions import TRANSITION_COLUMNS, LoggedData, Transitions

FEATURE_ROWS = 2048  # Features of so many transitions are held at once.
NOISE_SAMPLE = 50_000  # The residual variance is taken from so many transitions; its error is then below 1 %.
NOISE_FLOOR = 1e-10  # Float32 observations are no finer than this variance of scaled changes.
CONSTANT_STD = 1.001 * SMALLEST_STD  # What varied less than this in the training data can say nothing of agents.
MAX_CENTRES = 500  # The prior keeps the factors of at most so many learned agents.
PRIOR_EPISODES = 2000  # The prior is learned from at most so many episodes of data on disk.


def features(model: FactoredEnsemble, obs: Tensor, action: Tensor) -> Tensor:
    """What multiplies u(agent) in the predicted scaled change, and learned reward and end, float64 [M, K, D + E, R].

    Args:
        model: The ensemble, on the CPU.
        obs: Observations, [K, D].
        action: int64 [K] or float32 [K, A].
    """
    s = model.config
    scaled = model.scale_action(action)
    if not s.n_actions:
        scaled = scaled.expand(s.members, *action.shape)
    v = model.state_encoder(model.scale_obs(obs).expand(s.members, *obs.shape)).unflatten(-1, (s.out_dim, s.rank))
    w = model.action_encoder(scaled)  # [M, K, R]
    result: Tensor = v.double() * w.double().unsqueeze(-2)
    return result


def targets(
    model: FactoredEnsemble, obs: Tensor, next_obs: Tensor, learned: Tensor, clips: bool
) -> tuple[Tensor, Tensor]:
    """Scaled changes of the observation, and learned reward and end.

    Args:
        model: The ensemble, on the CPU.
        obs: Observations, [K, D].
        next_obs: What followed, [K, D].
        learned: Rewards and ends, [K, E]; NaN where they are not known.
        clips: See `FactorPrior`. Where physics clips, a value at its bound says only that the unclipped one is beyond.

    Returns:
        The targets, float64 [K, D + E], and whether each says something of the agent, bool [K, D + E]; what a wall has
        set does not.
    """
    d = model.config.learned_dim
    obs, next_obs = obs[:, :d], next_obs[:, :d]
    raw = torch.cat([next_obs.double() - obs.double(), learned.double()], dim=1)
    known = raw.isfinite() & (model.delta_std > CONSTANT_STD)
    if clips:
        known[:, :d] &= (next_obs > model.obs_low[:d]) & (next_obs < model.obs_high[:d])
    known[:, :d] &= ~stopped(model.walls, next_obs)
    return torch.where(known, (raw - model.delta_mean.double()) / model.delta_std.double(), 0.0), known


def transition_statistics(
    model: FactoredEnsemble, noise: Tensor, clips: bool, obs: Tensor, action: Tensor, next_obs: Tensor, learned: Tensor
) -> tuple[Tensor, Tensor]:
    """What each of K transitions adds to the statistics: information [M, K, R, R] and vector [M, K, R]."""
    columns = noise.shape[1]  # Noise of earlier versions is of the observations alone.
    f = features(model, obs, action)[:, :, :columns]  # [M, K, D + E, R]
    change, known = (x[:, :columns] for x in targets(model, obs, next_obs, learned, clips))
    scaled = f * (known / noise[:, None])[..., None]
    return scaled.mT @ f, (scaled.mT @ change[..., None])[..., 0]


@torch.no_grad()
def gather_statistics(
    model: FactoredEnsemble, noise: Tensor, transitions: LoggedData, clips: bool = True
) -> SufficientStatistics:
    """What transitions say about the factors of their N agents.

    Args:
        model: The ensemble, on the CPU; its encoders count, its agents do not.
        noise: Residual variance, [M, D + E].
        transitions: The data, in memory or on disk.
        clips: See `FactorPrior`.

    Raises:
        ValueError: If the model is on another device.
    """
    model.check_on_cpu()
    s = model.config
    total = SufficientStatistics.none(s.members, transitions.n_agents, s.rank)
    for agent, *rows in chunks(transitions, s.extra_dim):
        information, vector = transition_statistics(model, noise, clips, *rows)
        total.information.index_add_(1, agent, information)
        total.vector.index_add_(1, agent, vector)
        total.seen.index_add_(0, agent, torch.ones_like(agent))
    return total


@torch.no_grad()
def learned_prior(model: FactoredEnsemble, transitions: Transitions, seed: int = 0, clips: bool = True) -> FactorPrior:
    """The prior that a trained model and its data imply.

    Args:
        model: The trained ensemble, on the CPU.
        transitions: What it was trained on; agents without any do not count.
        seed: Chooses agents and transitions where there are more than needed.
        clips: See `FactorPrior`.

    Raises:
        ValueError: If the model is on another device.
    """
    model.check_on_cpu()
    rng = np.random.default_rng(seed)
    known = np.unique(transitions.agent)
    if len(known) > MAX_CENTRES:
        known = np.sort(rng.choice(known, MAX_CENTRES, replace=False))
    centres = model.agent_encoder(torch.from_numpy(known)).double()  # [M, P, R]
    if len(transitions) > NOISE_SAMPLE:
        keep = np.zeros(len(transitions), dtype=np.bool_)
        keep[rng.choice(len(transitions), NOISE_SAMPLE, replace=False)] = True
        transitions = transitions.select(keep)
    return FactorPrior(centres, residual_variance(model, transitions, clips), clips)


@torch.no_grad()
def residual_variance(model: FactoredEnsemble, transitions: Transitions, clips: bool = True) -> Tensor:
    """Mean squared one-step error of each member and output in scaled units, float64 [M, D + E]."""
    s = model.config
    total = torch.zeros(s.members, s.out_dim, dtype=torch.float64)
    count = torch.zeros(s.out_dim, dtype=torch.float64)
    for agent, obs, action, next_obs, learned in chunks(transitions, s.extra_dim):
        u = model.agent_encoder(agent).double()
        change, known = targets(model, obs, next_obs, learned, clips)
        residual = (features(model, obs, action) @ u[..., None])[..., 0] - change
        total += (residual.square() * known).sum(1)
        count += known.sum(0)
    return (total / count.clamp_min(1)).clamp_min(NOISE_FLOOR)


def factor_posterior(
    model: FactoredEnsemble, transitions: LoggedData, seed: int = 0, clips: bool = True
) -> FactorPosterior:
    """Posterior of every agent of a trained model, from the data that it was trained on.

    Args:
        model: The trained ensemble, on the CPU.
        transitions: What it was trained on.
        seed: As `learned_prior`.
        clips: See `FactorPrior`.
    """
    sample = transitions.sample(PRIOR_EPISODES, seed)
    prior = learned_prior(model, sample, seed, clips)
    return FactorPosterior(prior, gather_statistics(model, prior.noise, transitions, clips))


def chunks(transitions: LoggedData, extra_dim: int) -> Iterator[tuple[Tensor, ...]]:
    """Agents, observations, actions, next ones, and rewards and ends [K, E], of at most `FEATURE_ROWS` rows at once."""
    for block in range(len(transitions.block_lengths)):
        part = transitions.read([block])
        for start in range(0, len(part["agent"]), FEATURE_ROWS):
            some = slice(start, start + FEATURE_ROWS)
            rows = [torch.from_numpy(np.ascontiguousarray(part[name][some])) for name in TRANSITION_COLUMNS]
            agent, obs, action, next_obs, *learned = rows
            yield agent, obs, action, next_obs, torch.column_stack(learned)[:, :extra_dim]
