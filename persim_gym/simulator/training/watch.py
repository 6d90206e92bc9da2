"""What a training tells whoever watches it, such as TensorBoard's curves."""

from typing import Protocol

from persim_gym.simulator.model.ensemble import FactoredEnsemble

GRADIENT_STEPS = "gradient_steps"
CLOSED_FORM = "closed_form"
"""Parts of a training, each with steps of its own: passes over the data (or over parts of them), and rounds."""


class Watch(Protocol):
    """Called after each step; changes nothing, and draws no random numbers."""

    def __call__(self, part: str, step: int, model: FactoredEnsemble, loss: float | None) -> None:
        """Takes note of a step.

        Args:
            part: `GRADIENT_STEPS` or `CLOSED_FORM`.
            step: Number of steps of this part that are done.
            model: The ensemble after it, on the device that it is trained on.
            loss: Mean loss of the step; None in closed form.
        """


def unwatched(part: str, step: int, model: FactoredEnsemble, loss: float | None) -> None:
    """Takes no note."""
