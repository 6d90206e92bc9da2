"""Simulators on disk: card.json and weights.safetensors, by name or by path."""

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.paths import ASSETS, persim_home
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model_card import SimulatorCard
from persim_gym.simulator.simulator import Simulator, read_simulator
from persim_gym.spec import EnvironmentSpec
from persim_gym.storage import CARD, replaceable, restore_all, restored
from persim_gym.version import __version__

DEFAULT_SIMULATOR = "mountaincar/random-v0"
_LIBRARIES = ("gymnasium", "numpy", "torch")


class UnknownSimulatorError(KeyError):
    """No simulator of that name."""

    def __str__(self) -> str:
        """The message as it is; KeyError would quote it."""
        return str(self.args[0])


def simulators_root() -> Path:
    """Folder of the user's own simulators."""
    return persim_home() / "simulators"


def simulator_folder(name: str, folder: Path | None = None) -> Path:
    """Where a simulator goes: the folder given, else by name among the user's own.

    Raises:
        ValueError: If the name is none, or something else would be lost (`persim_gym.storage.replaceable`).
    """
    if folder is not None:
        return replaceable(folder)
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or any(part.startswith(".") for part in parts):
        raise ValueError(f"{name!r} is no name of a simulator, such as fleet/pumps-v0; a folder goes into --out")
    return replaceable(simulators_root() / name)


def save_simulator(
    model: FactoredEnsemble,
    *,
    name: str,
    domain: str,
    dataset: str,
    dataset_hash: str,
    transitions: int,
    recipe_name: str,
    recipe: dict[str, Any],
    seed: int,
    training_seconds: float,
    folder: Path | None = None,
    starts: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
    interface: EnvironmentSpec | None = None,
    error: dict[str, Any] | None = None,
    beliefs: FactorPosterior | None = None,
    trust: dict[str, Any] | None = None,
    license: str = "MIT",
) -> Path:
    """Writes a simulator; one of that name is replaced whole or not at all.

    Args:
        model: The trained ensemble.
        name: See `SimulatorCard`, as the others.
        domain: See there.
        dataset: See there.
        dataset_hash: See there.
        transitions: See there.
        recipe_name: See there.
        recipe: See there.
        seed: See there.
        training_seconds: See there.
        folder: Where to; by default under the user's simulators, by name.
        starts: Agents [E] and first observations [E, D] of the logged episodes, for environments that start there.
        interface: Spaces, time limit and task where they are not the domain's.
        error: See `SimulatorCard`.
        beliefs: See `Simulator`.
        trust: See `SimulatorCard`.
        license: See there.

    Returns:
        The folder.
    """
    card = SimulatorCard(
        name=name,
        domain=domain,
        dataset=dataset,
        dataset_hash=dataset_hash,
        transitions=transitions,
        recipe_name=recipe_name,
        recipe=recipe,
        seed=seed,
        training_seconds=round(training_seconds, 1),
        shape=model.config.to_json(),
        libraries={library: version(library) for library in _LIBRARIES} | {"persim_gym": __version__},
        interface={} if interface is None else interface.to_json(),
        error=error or {},
        trust=trust or {},
        license=license,
    )
    folder = simulator_folder(name, folder)
    agents, obs = starts or (np.empty(0, dtype=np.int64), np.empty((0, model.config.obs_dim), dtype=np.float32))
    order = np.argsort(agents, kind="stable")
    Simulator(card, model, folder, agents[order], obs[order], beliefs).save(folder)
    return folder


def list_simulators() -> dict[str, Path]:
    """Every simulator that a name stands for: the user's own, then bundled ones that they do not hide."""
    found: dict[str, Path] = {}
    restore_all(simulators_root())
    for root in (simulators_root(), ASSETS / "simulators"):
        for card in sorted(root.rglob(CARD)):
            name = card.parent.relative_to(root).as_posix()
            if not any(part.startswith(".") for part in card.parent.relative_to(root).parts):
                found.setdefault(name, card.parent)
    return found


def find_simulator(name: str) -> Path:
    """Folder of a simulator: a path, else a name among the user's own, else among the bundled ones.

    Raises:
        UnknownSimulatorError: If there is none; lists those that exist.
    """
    folder = restored(Path(name).expanduser())
    if (folder / CARD).is_file():
        return folder
    known = list_simulators()
    if name not in known:
        raise UnknownSimulatorError(
            f"no simulator {name!r}; known: {', '.join(known) or 'none'}. Train it with `persim train {name}`, or give "
            f"the path of a folder that holds {CARD}"
        )
    return known[name]


def load_simulator(name: str = DEFAULT_SIMULATOR) -> Simulator:
    """Loads a simulator by name or path; the same files are read once.

    Args:
        name: `<domain>/<policy>-v0`, or the path of a simulator's folder.

    Raises:
        UnknownSimulatorError: If there is none.
        ValueError: If it is damaged or of another format.
    """
    folder = find_simulator(name)
    return _load(folder.resolve(), (folder / CARD).stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _load(folder: Path, modified: int) -> Simulator:
    return read_simulator(folder)
