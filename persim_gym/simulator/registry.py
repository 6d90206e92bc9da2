"""Simulators on disk: card.json and weights.safetensors, by name or by path."""

from functools import lru_cache
from pathlib import Path

from persim_gym.paths import ASSETS, simulator_path, simulators_root
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.trusted_tasks import check_trusted, trust_in_this_process
from persim_gym.spec import DOMAIN_TASK
from persim_gym.storage import CARD, replaceable, restore_all, restored
from persim_gym.suggest import suggestion

DEFAULT_SIMULATOR = "mountaincar/random-v0"


class UnknownSimulatorError(KeyError):
    """No simulator of that name."""

    def __str__(self) -> str:
        """The message as it is; KeyError would quote it."""
        return str(self.args[0])


def simulator_folder(name: str, folder: Path | None = None) -> Path:
    """Where a simulator goes: the folder given, else by name among the user's own.

    Raises:
        ValueError: If the name is none, or something else would be lost (`persim_gym.storage.replaceable`).
    """
    return replaceable(simulator_path(name) if folder is None else folder)


def bundled_folder(name: str) -> Path | None:
    """Folder of the simulator of a name that ships with the package; None if there is none."""
    folder = ASSETS / "simulators" / name
    return folder if (folder / CARD).is_file() else None


def hidden_by(folder: Path) -> str:
    """Name of the bundled simulator that a folder of the user's own hides from then on; "" for none."""
    place, root = folder.resolve(), simulators_root().resolve()
    name = place.relative_to(root).as_posix() if place.is_relative_to(root) else ""
    return name if name and bundled_folder(name) else ""


def reference_to(folder: Path) -> str:
    """What to call a simulator on disk: its name where that means this folder, else the path."""
    same = (name for name, known in list_simulators().items() if known.resolve() == folder.resolve())
    return next(same, str(folder))


def own_simulator(name: str) -> Path:
    """Folder of a simulator of the user's own, by name.

    Raises:
        ValueError: If there is none of that name among the user's own.
    """
    folder = simulator_path(name)
    if not (folder / CARD).is_file():
        own = [known for known, path in list_simulators().items() if path != bundled_folder(known)]
        kind = "is bundled with persim_gym and stays" if bundled_folder(name) else "is none of your simulators"
        raise ValueError(f"{name!r} {kind}; of yours, {suggestion(name, own)}")
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


def find_simulator(name: str | Path) -> Path:
    """Folder of a simulator: a name among the user's own, else among the bundled ones, else a path.

    A `Path`, and what begins with `.`, `~` or the root, is a path alone, so that no folder hides a simulator of the
    same name.

    Raises:
        UnknownSimulatorError: If there is none; lists those that exist.
    """
    if not isinstance(name, str | Path):
        raise ValueError(f"a simulator is named by text or a path, not by {name!r}; save it, and give its folder")
    path, named = Path(name).expanduser(), str(name)
    alone = isinstance(name, Path) or path.is_absolute() or named.startswith(".")
    known = {} if alone else list_simulators()
    for spelling in (path.as_posix(), named.removeprefix("persim/")):  # The second is that of its dataset in Minari.
        if spelling in known:
            return known[spelling]
    if (restored(path) / CARD).is_file():
        return path
    if named not in (known := list_simulators()):
        raise UnknownSimulatorError(
            f"no simulator {named!r}, by name or as a folder with a {CARD} (`persim simulators list` shows all, "
            f"`persim train` makes one); {suggestion(named, known)}"
        )
    return known[named]


def load_simulator(name: str | Path = DEFAULT_SIMULATOR, trust: bool = False) -> Simulator:
    """Loads a simulator by name or path; the same files are read once.

    Args:
        name: `<domain>/<policy>-v0`, or the path of a simulator's folder, as `./mine`.
        trust: Whether this process, and those that it starts, may import the task that the card names. Tasks that
            this user has trained with may be imported anyway (`persim_gym.simulator.trusted_tasks`).

    Raises:
        UnknownSimulatorError: If there is none.
        ValueError: If it is damaged or of another format, or its task would be imported and is not trusted.
    """
    folder = find_simulator(name)
    simulator = _load(folder.resolve(), (folder / CARD).stat().st_mtime_ns)
    task = str(simulator.card.interface.get("task", DOMAIN_TASK))
    if trust:
        trust_in_this_process(task)
    check_trusted(task, simulator.card.name)
    return simulator


@lru_cache(maxsize=16)
def _load(folder: Path, modified: int) -> Simulator:
    return read_simulator(folder)
