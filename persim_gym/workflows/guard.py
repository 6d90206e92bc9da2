"""Which surprise is usual for a simulator: the band of `persim_gym.wrappers.TrustGuard`, from its own data."""

from pathlib import Path

import numpy as np

from persim_gym.datasets.of_simulator import logged_data
from persim_gym.paths import unfinished
from persim_gym.simulator.diagnostics.surprise import SurpriseBand, draw_stretches, measure_band
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import train_model


def guard_band(
    simulator: str | Path | Simulator,
    *,
    false_alarms: float = 1.0,
    held_out: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> SurpriseBand:
    """Measures the band of a guard on logged agents that a sibling of the simulator has not seen.

    A simulator errs less on what it was trained on, which would make the band too narrow. The sibling is trained first,
    which takes as long as the simulator's own training; an interrupted one goes on. Where transitions are at hand that
    the simulator has not seen, `persim_gym.wrappers.usual_surprise` needs no sibling.

    Args:
        simulator: A simulator with beliefs about its agents, or its name or path.
        false_alarms: Alarms allowed in 1,000 steps of an agent that has not changed, under the logging policy.
        held_out: Agents set aside; at most a fifth of all.
        seed: Chooses the agents and what is looked at of them.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If it holds no beliefs, its data are gone or changed, the rate is impossible, or there are too few
            agents for it.
    """
    loaded = simulator if isinstance(simulator, Simulator) else load_simulator(simulator)
    beliefs = loaded.known_beliefs()
    recipe, data = TrainingRecipe.from_json(loaded.card.recipe), logged_data(loaded)
    usable = np.flatnonzero(np.bincount(data.agent) >= 2)
    chosen = np.sort(np.random.default_rng(seed).permutation(usable)[: min(held_out, len(usable) // 5)])
    apart = np.isin(data.agent, chosen)
    if not apart.any():
        raise ValueError(f"{len(usable)} logged agents are too few to set {held_out} aside; log at least 5")
    unseen = data.select(apart)
    draw_stretches(unseen, false_alarms, seed)  # Too few are an error before anything is trained.
    checkpoint = Path(f"{unfinished('guard', data.content_hash(), recipe.to_json(), held_out, seed)}.safetensors")
    sibling, known = train_model(
        data.select(~apart),
        recipe,
        Problem.of_model(loaded.model, beliefs.prior.clips),
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    assert known is not None, "a simulator that holds beliefs has a sibling that does"
    band = measure_band(sibling, known, unseen, false_alarms=false_alarms, seed=seed)
    remove_checkpoints(checkpoint)
    return band
