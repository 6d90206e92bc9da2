"""Sizes of a factored ensemble."""

from dataclasses import asdict, dataclass
from typing import Any

from persim_gym.simulator.model.encoders import ACTIVATIONS

VARIANTS = ("factored", "unfactorized", "unpersonalized")
LARGEST_OBSERVATION = 10_000
"""Largest observation size D: a model has a table of D x D numbers (`persim_gym.simulator.model.walls`)."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a factored ensemble.

    Attributes:
        n_agents: Agents N.
        obs_dim: Observation size D.
        n_actions: Number of discrete actions; 0 when actions are continuous.
        action_dim: Action size A; 0 when actions are discrete.
        rank: Rank R.
        members: Ensemble members M.
        state_layers: Hidden widths of the state encoder.
        action_layers: Hidden widths of the action encoder; () for discrete actions.
        activation: "relu" or "silu".
        extra_dim: Quantities E predicted beside the next observation: 2 where reward and termination are learned.
        variant: "factored", or a variant of thesis section 5.3, see `persim_gym.simulator.model.ablations`.
    """

    n_agents: int
    obs_dim: int
    n_actions: int
    action_dim: int
    rank: int
    members: int = 5
    state_layers: tuple[int, ...] = (256,)
    action_layers: tuple[int, ...] = ()
    activation: str = "relu"
    extra_dim: int = 0
    variant: str = "factored"

    def __post_init__(self) -> None:
        """Checks that the sizes describe a model.

        Raises:
            ValueError: If they do not.
        """
        sizes = (self.n_agents, self.obs_dim, self.rank, self.members, *self.state_layers, *self.action_layers)
        either = (self.n_actions > 0) != (self.action_dim > 0)
        if min(sizes) < 1 or not either or not self.state_layers or self.extra_dim < 0:
            raise ValueError(f"impossible model sizes {self}: all positive, and either n_actions or action_dim is 0")
        if self.obs_dim > LARGEST_OBSERVATION:
            raise ValueError(f"observations of {self.obs_dim:,} numbers are too large; at most {LARGEST_OBSERVATION:,}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant {self.variant!r} is not one of {', '.join(VARIANTS)}")

    @property
    def out_dim(self) -> int:
        """Size D + E of a prediction."""
        return self.obs_dim + self.extra_dim

    @property
    def small(self) -> bool:
        """Whether compiled kernels serve this model: factored, one hidden layer and discrete actions."""
        return len(self.state_layers) == 1 and self.n_actions > 0 and self.variant != "unfactorized"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)
