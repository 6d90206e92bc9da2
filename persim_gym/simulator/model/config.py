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
        context: Of each of the last C columns of an observation, which are not learned: the column, or behind the
            columns the component of the action, that its next value comes from, and the share of itself that it keeps;
            see `persim_gym.observation_layout.PastColumn`.
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
    context: tuple[tuple[int, float], ...] = ()

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
        columns = self.obs_dim + max(self.n_actions, self.action_dim)
        if len(self.context) >= self.obs_dim or any(not 0 <= source < columns for source, _ in self.context):
            raise ValueError(f"context {self.context} does not fit {self.obs_dim} observations, one of them learned")

    @property
    def learned_dim(self) -> int:
        """Columns L of an observation that are learned, the first ones; the others follow from the row before."""
        return self.obs_dim - len(self.context)

    @property
    def held(self) -> list[int]:
        """Exogenous columns: a prediction holds them, and who knows their next values puts these in."""
        return [c for c, (source, _) in enumerate(self.context, self.learned_dim) if source == c]

    @property
    def out_dim(self) -> int:
        """Size L + E of what is learned: changes of the observation, and quantities beside it."""
        return self.learned_dim + self.extra_dim

    @property
    def prediction_dim(self) -> int:
        """Size D + E of a prediction."""
        return self.obs_dim + self.extra_dim

    @property
    def small(self) -> bool:
        """Whether compiled kernels serve this model: factored, one hidden layer, discrete actions and no context."""
        plain = self.variant != "unfactorized" and not self.context
        return len(self.state_layers) == 1 and self.n_actions > 0 and plain

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        stored = asdict(self)
        if not self.context:  # Cards of models without are as they were before there was any.
            del stored["context"]
        return stored
