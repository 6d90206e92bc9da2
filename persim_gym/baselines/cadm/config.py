"""How a context-aware dynamics model is shaped and trained."""

from dataclasses import asdict, dataclass
from typing import Any

KINDS = {"cadm": "Vanilla CaDM", "pe-ts-cadm": "PE-TS CaDM"}
"""Names of the variants, and what the thesis calls them."""


@dataclass(frozen=True)
class CadmSettings:
    """Shape and training of a context-aware dynamics model.

    Sizes are those of the published code; `PUBLISHED` has all else that it sets. It passes over all windows up to 200
    times in each of 20 iterations, which would take a processor's core days. The defaults predict best after minutes.

    Attributes:
        context: Size C of the context.
        context_layers: Hidden widths of the context encoder, with ReLU units.
        layers: Hidden widths of the forward and the backward model, with swish units.
        history: Past steps L that the context encoder sees.
        future: Steps F, from a window's present on, that are predicted one by one under the window's context.
        drawn: Steps S of the future that a step of Adam looks at, drawn anew for each window. A window's steps have one
            context and teach much the same: many windows with one step each take an error further down than few with
            all of them.
        young_weight: Weight of windows with fewer than L past steps: what their contexts cannot know yet would drown
            what all others can learn.
        backward_weight: Weight of the backward model's error.
        context_decay: Weight decay of the context encoder by layer; a layer past the last entry has none.
        decay: Weight decay of the forward and the backward model by layer.
        members: Models M of the probabilistic variant; the deterministic one is a single model.
        particles: Trajectories that the probabilistic variant samples, a multiple of `members`.
        beta: See `gaussian_loss`. The likelihood alone learns the components that a step determines, such as positions,
            long before all others.
        spread_penalty: Weight of how far apart the bounds of the log-variance are.
        learning_rate: Adam's.
        schedule: "cosine", on which the rate falls to zero along half a cosine, or "constant".
        batch: Windows a step and member.
        steps: Steps of Adam.
        check_every: Steps between two checks of the error on validation windows.
        validation: Share of the trajectories that are validated on.
        persistency: Weight of the past in the rolling average of the validation error, which starts at 1.5 times it.
        patience: Rises of that average in succession that end a training.
    """

    context: int = 10
    context_layers: tuple[int, ...] = (256, 128, 64)
    layers: tuple[int, ...] = (200, 200, 200, 200)
    history: int = 10
    future: int = 10
    drawn: int = 1
    young_weight: float = 0.1
    backward_weight: float = 0.5
    context_decay: tuple[float, ...] = ()
    decay: tuple[float, ...] = ()
    members: int = 5
    particles: int = 20
    beta: float = 0.5
    spread_penalty: float = 1e-4
    learning_rate: float = 3e-3
    schedule: str = "cosine"
    batch: int = 256
    steps: int = 8_000
    check_every: int = 50
    validation: float = 0.1
    persistency: float = 0.99
    patience: int = 10

    def __post_init__(self) -> None:
        """Checks the values.

        Raises:
            ValueError: If one is impossible.
        """
        for name in ("context", "history", "future", "drawn", "members", "batch", "steps", "check_every", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.layers or not self.context_layers:
            raise ValueError("layers and context_layers need at least one width each")
        if self.drawn > self.future:
            raise ValueError(f"drawn ({self.drawn}) must be at most future ({self.future}), the steps drawn from")
        if self.particles < 1 or self.particles % self.members:
            raise ValueError(
                f"particles ({self.particles}) must be a multiple of members ({self.members}): each particle keeps the "
                "member that it starts with"
            )
        if not (self.learning_rate > 0 and 0 <= self.validation < 1 and 0 <= self.persistency < 1):
            raise ValueError(
                "learning_rate must be positive, validation and persistency from 0 to less than 1, got "
                f"{self.learning_rate}, {self.validation} and {self.persistency}"
            )
        for name in ("young_weight", "backward_weight", "beta", "spread_penalty"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule {self.schedule!r} is not one of cosine, constant")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


PUBLISHED = CadmSettings(
    drawn=10,
    young_weight=1.0,
    context_decay=(2.5e-5, 5e-5, 7.5e-5),
    decay=(2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4),
    beta=0.0,
    spread_penalty=0.01,
    learning_rate=1e-3,
    schedule="constant",
    steps=1_500_000,
    check_every=400,
    patience=1,
)
"""The published code's, for about 100,000 windows: there it takes up to 4,000 passes over them."""


@dataclass(frozen=True)
class ObservationFeatures:
    """What the models see of an observation, and what they predict of it.

    Attributes:
        dropped: Components that the models do not see.
        angles: Components that they see by sine and cosine.
        absolute: Components whose next value is predicted, in place of their change.
    """

    dropped: tuple[int, ...] = ()
    angles: tuple[int, ...] = ()
    absolute: tuple[int, ...] = ()


FEATURES = {"halfcheetah": ObservationFeatures(dropped=(0,), angles=(2,), absolute=(0,))}
"""By domain: of HalfCheetah the forward velocity is not seen and predicted itself, the pitch seen as an angle.

Source: the published code of Lee et al. (2020).
"""


@dataclass(frozen=True)
class CadmShape:
    """Sizes that data give a model.

    Attributes:
        obs_dim: Observation size D.
        n_actions: Number of discrete actions; 0 when actions are continuous.
        action_dim: Action size A; 0 when actions are discrete.
        members: Models M.
        probabilistic: Whether each predicts a Gaussian.
        features: What is seen of observations.
    """

    obs_dim: int
    n_actions: int
    action_dim: int
    members: int
    probabilistic: bool
    features: ObservationFeatures = ObservationFeatures()

    @property
    def action_inputs(self) -> int:
        """Numbers that an action is to the networks."""
        return self.n_actions or self.action_dim

    @property
    def obs_inputs(self) -> int:
        """Numbers that an observation is to the networks."""
        return self.obs_dim - len(self.features.dropped) + len(self.features.angles)
