"""Training recipes: the thesis's own, and ours, found by measurement."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from persim_gym.storage import changed_fields, from_plain, reading


@dataclass(frozen=True)
class TrainingRecipe:
    """How a factored ensemble is shaped and trained.

    Attributes:
        rank: Rank R.
        state_layers: Hidden widths of the state encoder.
        action_layers: Hidden widths of the action encoder; ignored for discrete actions.
        activation: "relu" or "silu".
        members: Ensemble size M.
        standardize: Whether observations, actions and targets are scaled by the data's mean and standard deviation.
        agent_mean: Start of the bias of the agent encoder; None for PyTorch's default.
        agent_std: Standard deviation of the agents' start around it; None for PyTorch's default.
        epochs: Passes over the data.
        batch: Transitions a step and member.
        learning_rate: Adam's (the peak of a one-cycle schedule).
        schedule: "one-cycle", or "halving" every `halve_every` epochs.
        halve_every: See `schedule`.
        pull: Weight of the squared distance of an agent's latent factor to the shared one, per transition.
        interaction: Weight of the squared part of a prediction in which agent and action act together, per transition:
            what another action would change for the agent beyond what it would change for the shared factor.
        samples: Transitions that each member sees in place of `epochs`, so that small data get more passes; 0 for
            `epochs` as they are.
        noise: Standard deviation of Gaussian noise on scaled observations while training.
        weight_decay: Decoupled from the gradient (AdamW), of everything but the agents' own latent factors.
        walls: Whether bounds that the data show to stop observations at once are found and learned apart
            (`persim_gym.simulator.model.walls`); never where reward and termination are learned too, which transitions
            at a wall count for.
        refine: Rounds of closed-form solutions after training, each of the state encoder's last layer and then of the
            agents' factors; for data with little noise and no jumps. Factored models alone have them.
        polish: Whether agents' factors are replaced by their posterior means in closed form after training; rounds of
            `refine` do that too.
    """

    rank: int = 5
    state_layers: tuple[int, ...] = (256,)
    action_layers: tuple[int, ...] = (256, 256)
    activation: str = "relu"
    members: int = 5
    standardize: bool = False
    agent_mean: float | None = None
    agent_std: float | None = None
    epochs: int = 300
    batch: int = 512
    learning_rate: float = 1e-3
    schedule: str = "halving"
    halve_every: int = 150
    pull: float = 0.0
    interaction: float = 0.0
    samples: int = 0
    noise: float = 0.0
    weight_decay: float = 0.0
    walls: bool = False
    refine: int = 0
    polish: bool = False

    def __post_init__(self) -> None:
        """Checks the values that the model does not.

        Raises:
            ValueError: If one is impossible.
        """
        if min(self.epochs, self.batch, self.halve_every) < 1 or self.learning_rate <= 0 or self.pull < 0:
            raise ValueError(
                f"impossible recipe: epochs, batch, halve_every and learning_rate must be positive: {self}"
            )
        if min(self.interaction, self.samples, self.noise, self.weight_decay, self.refine) < 0:
            raise ValueError(
                f"impossible recipe: interaction, samples, noise, weight_decay and refine must not be negative: {self}"
            )
        if self.schedule not in ("one-cycle", "halving"):
            raise ValueError(f"schedule {self.schedule!r} is not one of one-cycle, halving")

    def for_data(self, transitions: int) -> "TrainingRecipe":
        """The recipe with `samples` turned into passes over that many transitions."""
        if not self.samples:
            return self
        return replace(self, epochs=max(1, round(self.samples / transitions)), samples=0)

    def shortened(self, epochs: int, transitions: int) -> "TrainingRecipe":
        """The recipe with so many passes over the data, and as much fewer (or more) rounds in closed form.

        Args:
            epochs: Passes over the data.
            transitions: Their number.
        """
        usual = self.for_data(transitions).epochs
        return replace(self, epochs=epochs, samples=0, refine=math.ceil(self.refine * epochs / usual))

    def changed(self, settings: Sequence[str]) -> "TrainingRecipe":
        """The recipe with some fields changed, each written "field=value" with the value as JSON has it.

        Raises:
            ValueError: If a field does not exist or cannot be that.
        """
        changed = changed_fields(self, settings)
        counted = any(setting.startswith("samples=") for setting in settings)
        by_epochs = any(setting.startswith("epochs=") for setting in settings) and not counted
        return replace(changed, samples=0) if by_epochs else changed

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "TrainingRecipe":
        """Reads what `to_json` made and JSON kept, from this version or an earlier one.

        Raises:
            ValueError: If a field is unknown, or a value impossible.
        """
        unknown = sorted(set(stored) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"this version knows no {', '.join(unknown)} in a training recipe; train again")
        with reading("recipe on the simulator's card", "train again"):
            return from_plain(cls, stored)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return asdict(self)


_THESIS_DISCRETE = TrainingRecipe()
_THESIS_CONTINUOUS = TrainingRecipe(rank=15, state_layers=(256,) * 4, standardize=True)

_DEFAULT = TrainingRecipe(
    activation="silu",
    standardize=True,
    agent_mean=1.0,
    agent_std=0.3,
    epochs=60,
    batch=64,
    learning_rate=3e-3,
    schedule="one-cycle",
    pull=0.003,
    walls=True,
    polish=True,
)

# Measured on HalfCheetah's random data: noise makes predictions outside the data's range better, and a planner gets
# further where agents start as far apart as PyTorch starts them and units are ReLUs.
_DEFAULT_CONTINUOUS = replace(
    _DEFAULT,
    rank=15,
    state_layers=(256,) * 4,
    action_layers=(256, 256),
    activation="relu",
    agent_mean=None,
    agent_std=None,
    epochs=8,
    batch=512,
    learning_rate=1e-3,
    schedule="halving",
    halve_every=4,
    pull=0.0,
    noise=0.05,
)

RECIPES = ("default", "thesis")


def general_recipe(kind: str = "default", continuous: bool = False) -> TrainingRecipe:
    """The recipe for data of which nothing more is known; a domain says what it changes (`Domain.recipes`).

    Args:
        kind: "default", or "thesis" for that of thesis appendix A.1, p. 45; its halving is in the published code only.
        continuous: Whether actions are continuous.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "thesis":
        return _THESIS_CONTINUOUS if continuous else _THESIS_DISCRETE
    if kind == "default":
        return _DEFAULT_CONTINUOUS if continuous else _DEFAULT
    raise ValueError(f"recipe {kind!r} is not one of {', '.join(RECIPES)}")
