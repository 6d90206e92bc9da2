"""`persim calibrate` and `persim_gym.calibrate`: how far to trust a simulator, measured and kept with it."""

from dataclasses import replace
from pathlib import Path

from persim_gym.datasets.of_simulator import logged_data
from persim_gym.paths import ASSETS, simulator_path, unfinished
from persim_gym.simulator.diagnostics.calibrate import measure
from persim_gym.simulator.registry import load_simulator, simulator_folder
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.storage import check_weights_stay


def calibrate(
    simulator: str | Path | Simulator,
    *,
    bound: float = 0.1,
    level: float = 0.9,
    held_out: int = 100,
    steps: int = 50,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    progress: bool = True,
) -> Simulator:
    """Measures how far a simulator can be trusted, on logged agents that a sibling of it has not seen.

    The sibling is trained first, which takes as long as the simulator's own training; an interrupted one goes on.

    Args:
        simulator: A simulator with beliefs about its agents, or its name or path.
        bound: Error not to be passed, in standard deviations of the logged observations.
        level: Probability that it is not.
        held_out: Agents set aside; at most a fifth of all.
        steps: Longest rollout.
        seed: Chooses the agents and what they are rolled out on.
        out: Folder; by default the simulator's own, and for one that is bundled its name under `$PERSIM_HOME`: what is
            bundled is never written.
        force: Whether a simulator of other weights in that folder is replaced.
        progress: Whether to show progress bars.

    Returns:
        The simulator with its measured limits on the card, and the noise of its transitions, as it is on disk.

    Raises:
        ValueError: If it holds no beliefs, its data are gone or changed, other weights are in the folder, or as
            `measure`.
    """
    loaded = simulator if isinstance(simulator, Simulator) else load_simulator(simulator)
    beliefs = loaded.known_beliefs()  # A simulator without is an error before anything is trained.
    own = simulator_path(loaded.card.name) if loaded.folder.resolve().is_relative_to(ASSETS) else loaded.folder
    folder = simulator_folder(loaded.card.name, own if out is None else Path(out))
    if not force:
        check_weights_stay(folder, loaded.card.sha256)
    recipe, data = TrainingRecipe.from_json(loaded.card.recipe), logged_data(loaded)
    checkpoint = Path(f"{unfinished('calibration', data.content_hash(), recipe.to_json(), held_out, seed)}.safetensors")
    trust, measured = measure(
        recipe,
        data,
        Problem.of_model(loaded.model, beliefs.prior.clips, loaded.integer_columns()),
        bound=bound,
        level=level,
        agents=held_out,
        steps=steps,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    card = replace(loaded.card, trust=trust.to_json())
    replace(loaded, card=card, noise=measured.noise, band_scale=measured.band_scale).save(folder, force)
    remove_checkpoints(checkpoint)
    return load_simulator(str(folder))
