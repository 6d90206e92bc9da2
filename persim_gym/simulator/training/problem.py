"""What a model has to learn."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from persim_gym.simulator.model.ensemble import FactoredEnsemble


@dataclass(frozen=True)
class Problem:
    """What a model has to learn, beyond what data show of themselves.

    Attributes:
        n_actions: Number of discrete actions; 0 when actions are continuous.
        bounds: Lowest and highest observations, [D] each, that predictions are clipped to; None for none.
        learn_task: Whether reward and termination are learned too, as two more outputs.
        clips: Whether values at the bounds are what physics clipped (see `FactorPrior`).
        context: Columns of the observation that are not learned, see `ModelConfig.context`.
        integers: Components of observations that are whole numbers. Training does not ask, but what is measured does.
    """

    n_actions: int = 0
    bounds: tuple[NDArray[Any], NDArray[Any]] | None = None
    learn_task: bool = False
    clips: bool = True
    context: tuple[tuple[int, float], ...] = ()
    integers: tuple[int, ...] = ()

    @classmethod
    def of_model(cls, model: FactoredEnsemble, clips: bool, integers: tuple[int, ...] = ()) -> "Problem":
        """What a trained model has learned."""
        s = model.config
        low, high = (bound[: s.learned_dim].cpu().numpy() for bound in (model.obs_low, model.obs_high))
        return cls(s.n_actions, (low, high), s.extra_dim > 0, clips, s.context, integers)
