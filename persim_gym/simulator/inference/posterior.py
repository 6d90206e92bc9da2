"""What is believed of agents' latent factors: a prior from learned agents, statistics from transitions, the posterior.

With the encoders frozen, a member's scaled change of dimension d is linear in u(agent), sum_r u_r (v_dr w_r), thesis
section 4.2.1. Given Gaussian residuals, K transitions enter as two sums over k and d, with f_r = v_dr w_r:

    information = sum f f' / noise_d         vector = sum f y_d / noise_d

Learned reward and end are linear in u(agent) too, and enter as two more dimensions.

The prior is a mixture of narrow Gaussians around the factors of learned agents. These lie on a curved surface of few
dimensions (that of the covariates), which one wide Gaussian fills out: with it, one transition leaves an error several
times larger on CartPole (docs/personalize.md). All components have one covariance, so that the posterior is a mixture
in closed form too.

Everything is float64: what data say about different directions differs by many magnitudes. Only what is kept of many
agents is float32, in a form that takes this (`PackedStatistics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.inference.sufficient_statistics import AGENTS_AT_ONCE, PackedStatistics, SufficientStatistics

# Widths of the prior's components to choose from, in standard deviations of learned factors.
BANDWIDTHS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


@dataclass(frozen=True)
class FactorPrior:
    """What is known of the latent factor of an agent without data.

    Attributes:
        centres: Factors of P learned agents, float64 [M, P, R].
        noise: Variance of each member's one-step residuals in scaled units, float64 [M, D + E]; [M, D] in files of
            earlier versions, whose statistics leave learned reward and end out.
        clips: Whether values at bounds are what physics clipped, as a domain knows of its own. In other data they may
            be all there is (one-hot categories), and are taken as they are.
    """

    centres: Tensor
    noise: Tensor
    clips: bool = True

    @cached_property
    def mean(self) -> Tensor:
        """Mean by member, [M, R]: the population average."""
        return self.centres.mean(1)

    @cached_property
    def bandwidth(self) -> Tensor:
        """Standard deviation of a component of the mixture in that of the learned factors, by member, [M].

        Of `BANDWIDTHS` the one under which learned factors are likeliest, each under the components of all others.
        """
        members, n, rank = self.centres.shape
        if n == 1:
            return torch.ones(members, dtype=torch.float64)
        lower = torch.linalg.cholesky(shrunk_covariance(self.centres))
        white = torch.linalg.solve_triangular(lower, self.centres.mT, upper=False).mT
        squared = torch.cdist(white, white).square() + torch.diag(torch.full((n,), torch.inf, dtype=torch.float64))
        likelihood = torch.stack(
            [torch.logsumexp(-0.5 * squared / h**2, 2).sum(1) - n * rank * np.log(h) for h in BANDWIDTHS]
        )
        return torch.tensor(BANDWIDTHS, dtype=torch.float64)[likelihood.argmax(0)]

    @cached_property
    def covariance(self) -> Tensor:
        """Covariance by member, [M, R, R]."""
        return (1 + self.bandwidth**2)[:, None, None] * shrunk_covariance(self.centres)

    @cached_property
    def precision(self) -> Tensor:
        """Inverse of the covariance, [M, R, R]."""
        return torch.linalg.inv(self.covariance)

    @cached_property
    def component_precision(self) -> Tensor:
        """Inverse covariance of one component of the mixture, [M, R, R]."""
        return torch.linalg.inv((self.bandwidth**2)[:, None, None] * shrunk_covariance(self.centres))


@dataclass(frozen=True)
class FactorPosterior:
    """Beliefs about the latent factors of N agents after their transitions, each member its own.

    Attributes:
        prior: What every agent started from.
        statistics: What its transitions added.
    """

    prior: FactorPrior
    statistics: SufficientStatistics | PackedStatistics

    @property
    def n_agents(self) -> int:
        """Number of agents N."""
        return len(self.statistics.seen)

    @cached_property
    def mean(self) -> Tensor:
        """Posterior means, [M, N, R]."""
        parts = torch.arange(self.n_agents).split(AGENTS_AT_ONCE)
        return torch.cat([self._mixture(self.statistics.of(part.tolist()))[0] for part in parts], dim=1)

    def covariance(self, agent: int) -> Tensor:
        """Posterior covariance of one agent's factor, [M, R, R]."""
        mean, weights, centres, inner = self._mixture(self.statistics.of([agent]))
        apart = (centres - mean[:, :, None])[:, 0]  # [M, P, R]
        return torch.linalg.inv(inner[:, 0]) + (apart * weights[:, 0, :, None]).mT @ apart

    def sample(self, agent: int, rng: np.random.Generator) -> Tensor:
        """Draws one agent's factor by member, [M, R]."""
        _, weights, centres, inner = self._mixture(self.statistics.of([agent]))
        chosen = (weights[:, 0].cumsum(1) < torch.from_numpy(rng.uniform(size=(len(weights), 1)))).sum(1)
        chosen = chosen.clamp(max=weights.shape[2] - 1)
        lower = torch.linalg.cholesky(inner[:, 0])  # precision = L L'
        normal = torch.from_numpy(rng.normal(size=(*self.prior.mean.shape, 1)))
        spread = torch.linalg.solve_triangular(lower.mT, normal, upper=True)[..., 0]
        return centres[torch.arange(len(chosen)), 0, chosen] + spread

    def draws(self, agent: int, rng: np.random.Generator, count: int) -> Tensor:
        """Several draws of one agent's factor by member, [M, count, R]."""
        _, weights, centres, inner = self._mixture(self.statistics.of([agent]))
        members, _, rank = self.prior.centres.shape
        chosen = (weights.cumsum(2) < torch.from_numpy(rng.uniform(size=(members, count, 1)))).sum(2)
        chosen = chosen.clamp(max=weights.shape[2] - 1)  # [M, count]
        lower = torch.linalg.cholesky(inner[:, 0])  # precision = L L'
        normal = torch.from_numpy(rng.normal(size=(members, rank, count)))
        spread = torch.linalg.solve_triangular(lower.mT, normal, upper=True).mT
        return centres[torch.arange(members)[:, None], 0, chosen] + spread

    def determination(self, agent: int) -> NDArray[np.float64]:
        """How much transitions say about each direction of an agent's factor, in multiples of what the prior says.

        Returns:
            Eigenvalues of the information matrix relative to the prior's precision, ascending, [M, R]. A direction
            with less than 1 is the prior's guess more than the data's.
        """
        root = torch.linalg.cholesky(self.prior.covariance)
        ratios: NDArray[np.float64] = torch.linalg.eigvalsh(
            root.mT @ self.statistics.of([agent]).information[:, 0] @ root
        ).numpy()
        return ratios.clip(0)

    def undetermined(self, agent: int) -> float:
        """Number of directions of an agent's factor that its data leave to the prior, mean over members, 0 to R."""
        return float((self.determination(agent) < 1).sum(axis=1).mean())

    def _mixture(self, statistics: SufficientStatistics) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The posterior mixture of n agents.

        Returns:
            Mean [M, n, R], weights of components [M, n, P], their means [M, n, P, R], their common precision
            [M, n, R, R].
        """
        prior, information = self.prior, statistics.information
        # Origin: the posterior mean under one wide Gaussian. Near it large terms cancel before they are squared.
        shift = (prior.precision @ prior.mean[..., None])[:, None] + statistics.vector[..., None]
        origin = torch.linalg.solve(prior.precision[:, None] + information, shift)[..., 0]  # [M, n, R]
        rest = statistics.vector - (information @ origin[..., None])[..., 0]
        centres = prior.centres[:, None] - origin[:, :, None]  # [M, n, P, R]
        inner = prior.component_precision[:, None] + information
        pulled = centres @ prior.component_precision[:, None]
        right = pulled + rest[:, :, None]
        means = torch.linalg.solve(inner, right.mT).mT
        weights = torch.softmax(0.5 * ((right * means).sum(-1) - (pulled * centres).sum(-1)), dim=-1)
        mean = origin + (weights[..., None] * means).sum(-2)
        untouched = (statistics.seen == 0) & (information == 0).all(3).all(2).all(0)
        # The mean itself, not the mean to rounding.
        mean[:, untouched] = prior.mean[:, None].expand(-1, int(untouched.sum()), -1)
        return mean, weights, means + origin[:, :, None], inner


def shrunk_covariance(factors: Tensor) -> Tensor:
    """Covariance over agents of factors [M, P, R], shrunk towards a multiple of the identity, [M, R, R].

    Few agents leave the plain estimate singular. One says nothing of the spread: its own size then stands for it.

    Source: oracle approximating shrinkage, Chen et al. 2010, equation 23.
    """
    n, rank = factors.shape[1:]
    identity = torch.eye(rank, dtype=factors.dtype)
    if n == 1:
        return factors.square().mean((1, 2)).clamp_min(1e-12)[:, None, None] * identity
    centred = factors - factors.mean(1, keepdim=True)
    plain = centred.mT @ centred / n
    trace = plain.diagonal(dim1=1, dim2=2).sum(1)
    squared = plain.square().sum((1, 2))  # trace of the square
    unequal = (n + 1 - 2 / rank) * (squared - trace.square() / rank)
    share = ((1 - 2 / rank) * squared + trace.square()) / unequal.clamp_min(1e-300)
    share = torch.where(unequal > 1e-300, share, 1.0)  # If all agents are the same, nothing is left to shrink.
    share = share.clamp(max=1.0)[:, None, None]
    size = (trace / rank).clamp_min(1e-12)[:, None, None]
    return (1 - share) * plain + share * size * identity


def to_tensors(posterior: FactorPosterior) -> dict[str, Tensor]:
    """Named arrays for a file. Learned factors are float32 numbers, and stay exactly what they are."""
    prior, statistics = posterior.prior, posterior.statistics
    packed = PackedStatistics.pack(statistics) if isinstance(statistics, SufficientStatistics) else statistics
    return {
        "prior.centres": prior.centres.float(),
        "prior.noise": prior.noise,
        "evidence.root": packed.root,
        "evidence.target": packed.target,
        "evidence.seen": packed.seen,
    }


def from_tensors(stored: Mapping[str, Tensor], clips: bool = True) -> FactorPosterior:
    """Reads what `to_tensors` wrote, or an earlier version, which kept information matrices whole.

    Args:
        stored: Arrays by name.
        clips: See `FactorPrior`.

    Raises:
        KeyError: If a part is missing.
    """
    seen = stored["evidence.seen"]
    statistics: SufficientStatistics | PackedStatistics
    if "evidence.information" in stored:
        statistics = SufficientStatistics(stored["evidence.information"], stored["evidence.vector"], seen)
    else:
        statistics = PackedStatistics(stored["evidence.root"], stored["evidence.target"], seen)
    return FactorPosterior(FactorPrior(stored["prior.centres"].double(), stored["prior.noise"], clips), statistics)
