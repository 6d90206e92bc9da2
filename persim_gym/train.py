"""From a dataset's name to a simulator on disk."""

import time
from dataclasses import replace
from pathlib import Path

from gymnasium import spaces

from persim_gym.envs.hetero import domain_of
from persim_gym.home import persim_home
from persim_gym.simulator.card import save_simulator
from persim_gym.simulator.fit import fit
from persim_gym.simulator.recipe import recipe_for
from persim_gym.transitions import Transitions


def train_simulator(
    transitions: Transitions,
    *,
    name: str,
    domain: str,
    recipe_name: str = "default",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    folder: Path | None = None,
    progress: bool = True,
) -> Path:
    """Trains a simulator and writes it; an interrupted training goes on where it stopped.

    Args:
        transitions: The data.
        name: Name of the simulator, by convention `<domain>/<policy>-v0`.
        domain: Name of the domain.
        recipe_name: "default" or "thesis".
        epochs: Passes over the data instead of the recipe's.
        seed: Source of all randomness.
        device: Torch device.
        folder: Where to; by default under the user's simulators, by name.
        progress: Whether to show a progress bar.

    Returns:
        The simulator's folder.

    Raises:
        ValueError: As `fit`.
    """
    spec = domain_of(domain)
    discrete = isinstance(spec.action_space, spaces.Discrete)
    recipe = recipe_for(domain, recipe_name, continuous=not discrete)
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    checkpoint = persim_home() / "training" / f"{name.replace('/', '-')}-{recipe_name}-{seed}.safetensors"
    started = time.perf_counter()
    model = fit(
        transitions,
        recipe,
        n_actions=int(spec.action_space.n) if isinstance(spec.action_space, spaces.Discrete) else 0,
        bounds=(spec.observation_space.low, spec.observation_space.high) if spec.clips else None,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
    )
    written = save_simulator(
        model,
        name=name,
        domain=domain,
        dataset=transitions.source,
        dataset_hash=transitions.content_hash(),
        transitions=len(transitions),
        recipe_name=recipe_name,
        recipe=recipe.to_json(),
        seed=seed,
        training_seconds=time.perf_counter() - started,
        folder=folder,
    )
    checkpoint.unlink(missing_ok=True)
    return written
