"""Jobs as tasks of a Ray cluster, one a core; nodes need no shared disk."""

import pickle
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numba
import torch

from persim_gym.jobs.attempt import Outcome, attempt, in_one_line
from persim_gym.jobs.local import available_cores
from persim_gym.storage import replacing

QUEUED_A_CORE = 2  # Tasks that wait at a core, so that it has one when it has ended another.


def run_away(
    call: bytes, keywords: Mapping[str, Any], has_folder: bool, *copies: Mapping[str, bytes]
) -> tuple[bytes, dict[str, bytes]]:
    """An attempt on some node, in a folder of its own.

    Args:
        call: As `attempt`.
        keywords: As `attempt`.
        has_folder: Whether the function takes a folder.
        *copies: Files that are in it, by their path there.

    Returns:
        As `attempt`; and the files in the folder that are new or changed, if it ended well.
    """
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    if not has_folder:
        return attempt(call, keywords), {}
    given = {path: content for files in copies for path, content in files.items()}
    with tempfile.TemporaryDirectory(prefix="persim-job-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch).resolve()
        for path, content in given.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        answer = attempt(call, {**keywords, "folder": folder})
        if pickle.loads(answer).error:
            return answer, {}
        return answer, {path: content for path, content in files_of(folder).items() if given.get(path) != content}


def files_of(folder: Path, name: str = ".") -> dict[str, bytes]:
    """Contents of a file in a folder, or of all files in a folder in it, by their path in the outer one."""
    place = folder / name
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def write_received(files: Mapping[str, bytes], folder: Path) -> None:
    """Writes files, each whole or not at all, those that vouch for others last: the outer ones, and JSON.

    Whatever of these is there already goes first, so that none of them ever stands beside files of another.
    """
    names = sorted(files, key=lambda name: (-name.count("/"), name.endswith(".json"), name))
    for name in reversed(names):
        if name.endswith(".json"):
            (folder / name).unlink(missing_ok=True)
    for name in names:
        with replacing(folder / name) as new:
            new.write_bytes(files[name])


class RayWorkers:
    """Runs jobs as tasks of a Ray cluster; as `persim_gym.jobs.run.JobWorkers`."""

    def __init__(
        self,
        function: Callable[..., Any],
        constants: Mapping[str, Any],
        folder: Path | None,
        slots: int | None,
        address: str | None,
    ) -> None:
        """Joins the cluster, or starts one on this machine; one that this process has joined already is used as it is.

        Args:
            function: See `run_unlogged`.
            constants: See `run_unlogged`; they travel to a node once.
            folder: See `run_unlogged`.
            slots: Tasks at once; None for what the cluster's cores take.
            address: Of the cluster; None to start one here.

        Raises:
            ValueError: If no cluster answers there.
        """
        import ray

        self._ray, self._folder, self._given_slots = ray, folder, slots
        self._joined = not ray.is_initialized()
        if self._joined:
            _join(ray, address, slots)
        # The job is tried again by whom it is handed back to, after a node that has died too.
        self._task: Any = ray.remote(num_cpus=1, max_retries=0)(run_away)
        self._call = ray.put(ray.cloudpickle.dumps((function, dict(constants))))
        self._copies: dict[str, Any] = {}  # References to `files_of` each name.
        self._running: dict[Any, int] = {}

    @property
    def slots(self) -> int:
        """Tasks that may be under way; grows as nodes join."""
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        return self._given_slots or max(1, QUEUED_A_CORE * cores)

    def start(self, number: int, keywords: Mapping[str, Any], reads: Iterable[str]) -> None:
        """Hands a task to the cluster."""
        copies = [self._copied(name) for name in reads]
        task = self._task.remote(self._call, dict(keywords), self._folder is not None, *copies)
        self._running[task] = number

    def ended(self, timeout: float | None) -> Iterator[tuple[int, Outcome]]:
        """Waits for a task; yields the jobs that have ended, their files written."""
        if not self._running:
            return
        tasks = list(self._running)
        ready, _ = self._ray.wait(tasks, num_returns=1 if timeout != 0 else len(tasks), timeout=timeout)
        for task in ready:
            number = self._running.pop(task)
            try:
                answer, files = self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:
                yield number, Outcome(error=in_one_line(error.cause))
                continue
            except self._ray.exceptions.RayError as error:  # Its process or node was killed.
                yield number, Outcome(error=in_one_line(error))
                continue
            if self._folder is not None:
                write_received(files, self._folder)
            yield number, pickle.loads(answer)

    def _copied(self, name: str) -> Any:
        """Reference to the files of a name; they travel to a node once."""
        assert self._folder is not None
        if name not in self._copies:
            self._copies[name] = self._ray.put(files_of(self._folder, name))
        return self._copies[name]

    def __enter__(self) -> "RayWorkers":
        """Is itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves a cluster that it joined, which ends its tasks."""
        if self._joined:
            self._ray.shutdown()
        else:
            for task in self._running:
                self._ray.cancel(task, force=True)


def _join(ray: Any, address: str | None, workers: int | None) -> None:
    """Joins the cluster at an address, or starts Ray on this machine."""
    try:
        _check_answers(address)
        if address is None:
            cores = workers or available_cores()
            ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except OSError as error:
        raise ValueError(
            f"no Ray cluster answers at {address}: {error}; start one with `ray start --head`, and where it wants "
            "a token, set RAY_AUTH_MODE=token here too"
        ) from error


def _check_answers(address: str | None) -> None:
    """Fails at once where nothing listens at `host:port`; Ray itself tries for many minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
