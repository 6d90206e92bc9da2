"""Simulators on disk: card.json and weights.safetensors, by name or by path."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from persim_gym.files import CARD, read_folder, write_folder
from persim_gym.home import ASSETS, persim_home
from persim_gym.simulator.model import AgentDynamics, FactoredEnsemble, ModelShape
from persim_gym.version import __version__

FORMAT = 1
DEFAULT_SIMULATOR = "mountaincar/random-v0"
_LIBRARIES = ("gymnasium", "numpy", "torch")


class UnknownSimulatorError(KeyError):
    """No simulator of that name."""

    def __str__(self) -> str:
        """The message as it is; KeyError would quote it."""
        return str(self.args[0])


@dataclass(frozen=True)
class SimulatorCard:
    """What a simulator is and where it comes from.

    Attributes:
        name: `<domain>/<policy>-v0` after its dataset.
        domain: Name of the domain whose task and spaces it has.
        dataset: Minari id of its data.
        dataset_hash: Content hash of its data.
        transitions: Number of transitions it was trained on.
        recipe_name: "default", "thesis" or the user's own.
        recipe: The training recipe.
        seed: Seed of the training.
        training_seconds: Wall-clock time of the training.
        shape: Sizes of the model.
        libraries: Versions that trained it.
        license: Licence of the weights.
        format: Version of this card.
        sha256: Of the weights; filled in when written.
    """

    name: str
    domain: str
    dataset: str
    dataset_hash: str
    transitions: int
    recipe_name: str
    recipe: dict[str, Any]
    seed: int
    training_seconds: float
    shape: dict[str, Any]
    libraries: dict[str, str]
    license: str = "MIT"
    format: int = FORMAT
    sha256: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], where: Path) -> "SimulatorCard":
        """Checks a card that was read.

        Raises:
            ValueError: If keys or types are not those of this format.
        """
        expected = {f.name: f.type for f in fields(cls)}
        types = {"str": str, "int": int, "float": (int, float)}
        wrong = sorted(set(stored) ^ set(expected)) or [
            name
            for name, kind in expected.items()
            if not isinstance(stored[name], types.get(getattr(kind, "__name__", str(kind)), dict))  # type: ignore[arg-type]
        ]
        if wrong or stored["format"] != FORMAT:
            raise ValueError(
                f"{where / CARD} is not a simulator card of format {FORMAT} (see {', '.join(wrong) or 'format'}); "
                "train the simulator again with this version"
            )
        return cls(**stored)


@dataclass(frozen=True)
class Simulator:
    """A trained simulator of all agents.

    Attributes:
        card: What it is.
        model: The factored ensemble.
        folder: Where it was read from.
    """

    card: SimulatorCard
    model: FactoredEnsemble
    folder: Path

    def dynamics(self, agent: int) -> AgentDynamics:
        """The simulator bound to one agent.

        Raises:
            ValueError: If the agent is unknown.
        """
        return self.model.dynamics(agent)


def simulators_root() -> Path:
    """Folder of the user's own simulators."""
    return persim_home() / "simulators"


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
        shape=model.shape.to_json(),
        libraries={library: version(library) for library in _LIBRARIES} | {"persim_gym": __version__},
    )
    folder = folder or simulators_root() / name
    write_folder(folder, asdict(card), {key: value.numpy() for key, value in model.state_dict().items()})
    return folder


def list_simulators() -> dict[str, Path]:
    """Every simulator that a name stands for: the user's own, then bundled ones that they do not hide."""
    found: dict[str, Path] = {}
    for root in (simulators_root(), ASSETS / "simulators"):
        for card in sorted(root.glob(f"*/*/{CARD}")):
            name = card.parent.relative_to(root).as_posix()
            if not any(part.startswith(".") for part in card.parent.relative_to(root).parts):
                found.setdefault(name, card.parent)
    return found


def find_simulator(name: str) -> Path:
    """Folder of a simulator: a path, else a name among the user's own, else among the bundled ones.

    Raises:
        UnknownSimulatorError: If there is none; lists those that exist.
    """
    if (Path(name).expanduser() / CARD).is_file():
        return Path(name).expanduser()
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
    stored, tensors = read_folder(folder)
    card = SimulatorCard.from_json(stored, folder)
    shape = dict(card.shape)
    try:
        for name in ("state_layers", "action_layers"):
            shape[name] = tuple(shape[name])
        model = FactoredEnsemble(ModelShape(**shape))
        model.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"the weights in {folder} do not fit its card: {error}; train it again") from error
    return Simulator(card, model.eval().requires_grad_(False), folder)
