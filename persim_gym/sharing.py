"""`persim share`: simulators on a model hub, sent there and fetched from there.

What is fetched is a fixed list of files, read and checked before it takes its place. Nothing of it is run or imported.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from persim_gym.evaluation.traces import TRACES
from persim_gym.extras import required
from persim_gym.paths import simulator_path
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.model_card import card_markdown
from persim_gym.simulator.registry import load_simulator, simulator_folder
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.trusted_tasks import check_trusted, trust_from_now_on
from persim_gym.storage import CARD, MEASURED, README, WEIGHTS, check_weights_stay, replacing

SHARED = (CARD, WEIGHTS, MEASURED, TRACES)
"""Files of a simulator that are sent and fetched; the page of its card is written anew."""
_NEEDED = ("hub", "sharing needs huggingface_hub")
ENDPOINT_VARIABLE = "HF_ENDPOINT"
_LONGEST_REASON = 300  # Characters of a message that are taken from the hub's own.


def push(simulator: str | Path | Simulator, repository: str, *, private: bool = False, message: str = "") -> str:
    """Sends a simulator to the hub, into a new repository or as a new version of one.

    All of it is sent: names of agents and columns, and logged first observations too.

    Args:
        simulator: A simulator that is on disk, or its name or path.
        repository: "USER/NAME".
        private: Whether a new repository is for the user alone.
        message: What the version is called.

    Returns:
        Address of the repository.

    Raises:
        MissingExtraError: If huggingface_hub is not installed.
        ValueError: If there is no such simulator, or the hub refuses.
    """
    hub = _hub()
    loaded = simulator if isinstance(simulator, Simulator) else load_simulator(simulator)
    read_simulator(loaded.folder)  # What is damaged is not sent.
    paths = {name: path for name in SHARED if (path := loaded.folder / name).is_file()}
    files: dict[str, Any] = {**paths, README: card_markdown(loaded.card.to_json()).encode()}
    message = message or f"Simulator {loaded.card.name}"
    with _asking(repository, "log in with `hf auth login`, or set HF_TOKEN, and look whether the name is yours"):
        address = hub.create_repo(repository, private=private, exist_ok=True)
        adding = required("huggingface_hub", *_NEEDED).CommitOperationAdd
        hub.create_commit(repository, [adding(name, file) for name, file in files.items()], commit_message=message)
    return str(address)


def pull(
    repository: str,
    *,
    name: str | None = None,
    revision: str | None = None,
    trust: bool = False,
    force: bool = False,
) -> Path:
    """Fetches a simulator from the hub, to be known by its name from then on.

    Args:
        repository: "USER/NAME".
        name: What to call it here; by default as there.
        revision: A branch, tag or version; None for the newest.
        trust: Whether a task that the card names may be imported from now on. Without, the simulator is fetched all the
            same, and loading it says what it would import.
        force: Whether another simulator of that name is replaced.

    Returns:
        Its folder.

    Raises:
        MissingExtraError: If huggingface_hub is not installed.
        ValueError: If there is none, it cannot be read, or another simulator has its name.
    """
    hub = _hub()
    folder = simulator_folder(name or repository)
    with tempfile.TemporaryDirectory(prefix="persim-share-") as scratch:
        with _asking(repository, "look whether the name is right, and whether you may see it (`hf auth login`)"):
            hub.snapshot_download(
                repository, revision=revision, local_dir=scratch, allow_patterns=list(SHARED), max_workers=1
            )
        fetched = read_simulator(Path(scratch))
        if not force:
            check_weights_stay(folder, fetched.card.sha256)
        with replacing(folder, CARD) as new:
            for file in SHARED:
                if (Path(scratch) / file).is_file():
                    shutil.copyfile(Path(scratch) / file, new / file)
            (new / README).write_text(card_markdown(fetched.card.to_json()), encoding="utf-8")
    if trust:
        trust_from_now_on(fetched.spec.task)
    return folder


def untrusted_task(folder: Path) -> str:
    """What a simulator on disk would import that this user has not trusted, as one line; empty for nothing."""
    simulator = read_simulator(folder)
    try:
        check_trusted(simulator.spec.task, simulator.card.name)
    except ValueError as error:
        return str(error)
    return ""


def _hub() -> Any:
    """The hub, at the address that the environment names."""
    # The library itself reads the variable once, when it is imported.
    return required("huggingface_hub", *_NEEDED).HfApi(endpoint=os.environ.get(ENDPOINT_VARIABLE) or None)


@contextmanager
def _asking(repository: str, remedy: str) -> Iterator[None]:
    """Makes one ValueError, of one line, of whatever the hub or the way to it refuses."""
    simulator_path(repository)
    if repository.count("/") != 1:
        raise ValueError(f"{repository!r} is no repository, such as somebody/pumps")
    try:
        yield
    except Exception as error:
        said = [str(each) for each in (error, error.__cause__) if each is not None and str(each)]
        reason = " ".join(" ".join(said).split())[:_LONGEST_REASON] or type(error).__name__
        raise ValueError(f"{repository} on the hub: {reason}; {remedy}") from error
