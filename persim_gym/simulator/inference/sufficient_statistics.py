"""What transitions say about agents' latent factors: sums that add up, and a form of a third of their size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

AGENTS_AT_ONCE = 256  # Full matrices of so many agents are held at once.


@dataclass(frozen=True)
class SufficientStatistics:
    """What transitions say about the factors of N agents; that of more transitions is the sum.

    Attributes:
        information: float64 [M, N, R, R].
        vector: float64 [M, N, R].
        seen: Number of transitions, int64 [N].
    """

    information: Tensor
    vector: Tensor
    seen: Tensor

    @classmethod
    def none(cls, members: int, agents: int, rank: int) -> "SufficientStatistics":
        """That of no transitions."""
        return cls(
            torch.zeros(members, agents, rank, rank, dtype=torch.float64),
            torch.zeros(members, agents, rank, dtype=torch.float64),
            torch.zeros(agents, dtype=torch.int64),
        )

    def of(self, agents: Sequence[int]) -> "SufficientStatistics":
        """That of some agents, in their order."""
        chosen = torch.as_tensor(agents)
        return SufficientStatistics(self.information[:, chosen], self.vector[:, chosen], self.seen[chosen])

    def joined(self, other: "SufficientStatistics") -> "SufficientStatistics":
        """These agents, then the other's."""
        return SufficientStatistics(
            torch.cat([self.information, other.information], dim=1),
            torch.cat([self.vector, other.vector], dim=1),
            torch.cat([self.seen, other.seen]),
        )

    def __add__(self, other: "SufficientStatistics") -> "SufficientStatistics":
        """Evidence of both sets of transitions about the same agents."""
        return SufficientStatistics(
            self.information + other.information, self.vector + other.vector, self.seen + other.seen
        )


@dataclass(frozen=True)
class PackedStatistics:
    """Evidence about N agents in a third of the memory, to be kept: information = root' root, vector = root' target.

    The memory is 0.38 of the sums' at rank 3, 0.27 at rank 30. Sums rounded to float32 would drown directions that the
    data say little about: eigenvalues of one agent differ by up to 10^9. Those of its root differ by the square root
    of that, and the rounded root still stands for a matrix without negative eigenvalues. Target and root round alike,
    so that the factor that fits best moves by their rounding only (docs/personalize.md has how far).

    Attributes:
        root: Upper triangles, row after row, float32 [M, N, R (R + 1) / 2].
        target: float32 [M, N, R].
        seen: Number of transitions, int64 [N].

    Source: the square-root information filter, Bierman 1977, chapter V.
    """

    root: Tensor
    target: Tensor
    seen: Tensor

    @classmethod
    def pack(cls, statistics: SufficientStatistics) -> "PackedStatistics":
        """Packs sums."""
        parts = [
            _packed(statistics.of(part.tolist())) for part in torch.arange(len(statistics.seen)).split(AGENTS_AT_ONCE)
        ]
        roots, targets = zip(*parts, strict=True)
        return cls(torch.cat(roots, dim=1), torch.cat(targets, dim=1), statistics.seen)

    def of(self, agents: Sequence[int]) -> SufficientStatistics:
        """The sums of some agents, in their order."""
        chosen = torch.as_tensor(agents)
        target = self.target[:, chosen].double()
        root = torch.zeros(*target.shape, target.shape[-1], dtype=torch.float64)
        rows, columns = torch.triu_indices(*root.shape[-2:])
        root[..., rows, columns] = self.root[:, chosen].double()
        return SufficientStatistics(root.mT @ root, (root.mT @ target[..., None])[..., 0], self.seen[chosen])

    def joined(self, other: SufficientStatistics) -> "PackedStatistics":
        """These agents, then the other's."""
        more = PackedStatistics.pack(other)
        return PackedStatistics(
            torch.cat([self.root, more.root], dim=1),
            torch.cat([self.target, more.target], dim=1),
            torch.cat([self.seen, more.seen]),
        )


def _packed(statistics: SufficientStatistics) -> tuple[Tensor, Tensor]:
    """Triangles and targets of n agents; see `PackedStatistics`."""
    values, vectors = torch.linalg.eigh(statistics.information)
    rank = values.shape[-1]
    # Few transitions leave zeros, but for rounding.
    nothing = values <= rank * torch.finfo(values.dtype).eps * values[..., -1:]
    size = torch.where(nothing, 0.0, values).sqrt()
    along = (vectors.mT @ statistics.vector[..., None])[..., 0]
    target = torch.where(nothing, 0.0, along / torch.where(nothing, 1.0, size))
    turn, root = torch.linalg.qr(size[..., None] * vectors.mT)
    rows, columns = torch.triu_indices(rank, rank)
    return root[..., rows, columns].float(), (turn.mT @ target[..., None])[..., 0].float()
