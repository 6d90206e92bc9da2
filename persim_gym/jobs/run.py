"""Runs many jobs on this machine or on a Ray cluster, tries again what failed, and goes on where it stopped."""

import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypedDict

from tqdm import tqdm
from typing_extensions import Unpack

from persim_gym.extras import required
from persim_gym.jobs.attempt import Outcome
from persim_gym.jobs.local import LocalWorkers, available_cores
from persim_gym.jobs.rows import RowLog

BACKENDS = ("local", "ray")
ATTEMPTS = 2  # So often a job is tried before it counts as failed.
REFRESH_SECONDS = 1.0  # Of the time that the progress bar of a terminal shows.


class JobPlace(TypedDict, total=False):
    """Where jobs run.

    Attributes:
        workers: Processes, or tasks at once on Ray; None for one a core of the machine or cluster.
        backend: "local" for processes of this machine, "ray" for a Ray cluster. Each of its nodes needs persim_gym, the
            modules of the jobs' functions, and whatever simulators and datasets jobs take by name.
        address: Of the Ray cluster, as "auto" or "host:port"; None to start Ray on this machine.
    """

    workers: int | None
    backend: str
    address: str | None


class JobsFailed(ValueError):
    """Jobs that failed `ATTEMPTS` times, while the others went on.

    Attributes:
        failures: Each job, and what went wrong the last time.
    """

    def __init__(self, failures: Sequence[tuple[Mapping[str, Any], str]], total: int) -> None:
        """Lists them, a line each.

        Args:
            failures: See above.
            total: Number of all jobs.
        """
        self.failures = list(failures)
        lines = [f"\n  {_label(job)}: {error}" for job, error in self.failures]
        super().__init__(
            f"{len(lines)} of {total} jobs failed {ATTEMPTS} times; what the others did is kept, and the same command "
            f"tries these again:{''.join(lines)}"
        )


class JobWorkers(AbstractContextManager["JobWorkers"], Protocol):
    """Processes that run jobs; leaving it ends them, at once where something went wrong."""

    @property
    def slots(self) -> int:
        """Jobs that may be under way."""

    def start(self, number: int, keywords: Mapping[str, Any], reads: Iterable[str]) -> None:
        """Starts the job of a number, which reads files of these names."""

    def ended(self, timeout: float | None) -> Iterator[tuple[int, Outcome]]:
        """Waits, for so many seconds at most, and yields what has ended since the last time, which may be nothing."""


def check_place(backend: str, address: str | None) -> None:
    """Refuses places that do not exist.

    Raises:
        ValueError: If the backend is unknown, Ray is asked for and not installed, or an address is given without it.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    if address is not None and backend != "ray":
        raise ValueError(f"address {address!r} is that of a Ray cluster; add --backend ray, or leave it out")
    if backend == "ray":
        required("ray", "ray", "the Ray backend needs Ray")


def run_jobs(
    function: Callable[..., Mapping[str, Any] | Sequence[Mapping[str, Any]]],
    jobs: Iterable[Mapping[str, Any]],
    log: RowLog,
    *,
    description: str,
    constants: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    rows: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] = lambda job: [job],
    progress: bool = True,
    folder: Path | None = None,
    reads: Callable[[Mapping[str, Any]], Iterable[str]] = lambda job: (),
    **place: Unpack[JobPlace],
) -> list[dict[str, str]]:
    """Runs the jobs that the log does not hold yet, and logs each as it ends.

    Args:
        function: Importable; called as `run_unlogged` says; returns the log's value columns, or a list of rows, each
            with the key columns that the job lacks.
        jobs: Keyword values of each job.
        log: Finished jobs.
        description: Of the progress bar.
        constants: See `run_unlogged`.
        drop: See `run_unlogged`.
        rows: Keys of all rows of a job, which has ended once all of them are there; by default the job is the key of
            its one row.
        progress: Whether to show a progress bar.
        folder: See `run_unlogged`.
        reads: See `run_unlogged`.
        **place: See `JobPlace`.

    Returns:
        The log's rows of each job, in the order of the jobs.

    Raises:
        JobsFailed: If some failed again and again; the rows of the others are in the log.
        ValueError: As `check_place`, or if a job's rows are not those that it should have.
    """
    jobs = list(jobs)
    missing = [job for job in jobs if any(log.get(key) is None for key in rows(job))]

    def add(job: Mapping[str, Any], result: Any) -> None:
        log.add(job, result)
        if absent := [key for key in rows(job) if log.get(key) is None]:
            raise ValueError(f"job {_label(job)} has returned no row of {_label(absent[0])}")

    run_unlogged(
        function,
        missing,
        add,
        description=description,
        constants=constants,
        drop=drop,
        done=len(jobs) - len(missing),
        progress=progress,
        folder=folder,
        reads=reads,
        **place,
    )
    found = [log.get(key) for job in jobs for key in rows(job)]
    return [row for row in found if row is not None]


def run_unlogged(
    function: Callable[..., Any],
    jobs: Sequence[Mapping[str, Any]],
    finished: Callable[[Mapping[str, Any], Any], None],
    *,
    description: str,
    constants: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    done: int = 0,
    progress: bool = True,
    folder: Path | None = None,
    reads: Callable[[Mapping[str, Any]], Iterable[str]] = lambda job: (),
    **place: Unpack[JobPlace],
) -> None:
    """Runs jobs in processes of one thread each, on all cores, and hands each result on as soon as it is there.

    A job that fails, or whose process is killed, is reported at once and tried once more, after the others. On Ctrl-C
    the results that are there are handed on, and processes end at once.

    Args:
        function: Importable; called with a job's values as keywords.
        jobs: Keyword values of each job.
        finished: Called in this process with a job and what the function returned.
        description: Of the progress bar.
        constants: Further keywords of the function, the same for all jobs.
        drop: Keys of a job that the function does not take.
        done: Jobs that were done earlier, for the progress bar.
        progress: Whether to show a progress bar.
        folder: Given to the function as the keyword `folder`: where its files are. On Ray, a folder of its own with
            copies of what `reads` names; what it writes there is written into this folder once the job has ended,
            inner folders first and what vouches for them, such as a card, last.
        reads: Files and folders that a job reads, relative to `folder`; what is not there is left out. "." is all of
            it.
        **place: See `JobPlace`.

    Raises:
        JobsFailed: If some failed `ATTEMPTS` times; the others have run.
        ValueError: As `check_place`, or if no cluster answers at the address.
        RuntimeError: If no process can be started.
    """
    check_place(place.get("backend", "local"), place.get("address"))
    bar = tqdm(total=done + len(jobs), initial=done, desc=description, smoothing=0, disable=not progress)
    if not jobs:
        bar.close()
        return
    tick = REFRESH_SECONDS if progress and sys.stderr.isatty() else None
    waiting, running, tries = deque(range(len(jobs))), 0, [0] * len(jobs)
    failures: list[tuple[Mapping[str, Any], str]] = []
    with bar, _workers(function, constants or {}, len(jobs), folder, **place) as workers:
        try:
            while waiting or running:
                while waiting and running < workers.slots:
                    number, running = waiting.popleft(), running + 1
                    keywords = {key: value for key, value in jobs[number].items() if key not in drop}
                    workers.start(number, keywords, () if folder is None else reads(jobs[number]))
                for number, outcome in workers.ended(tick):
                    job, running, tries[number] = jobs[number], running - 1, tries[number] + 1
                    if not outcome.error:
                        finished(job, outcome.result)
                        bar.update()
                    elif tries[number] < ATTEMPTS:
                        _say_failed(job, outcome.error, "it is tried again after the others")
                        waiting.append(number)
                    else:
                        _say_failed(job, outcome.error, "it is given up")
                        failures.append((job, outcome.error))
                bar.refresh()
        except BaseException:  # This is Ctrl-C, too.
            for number, outcome in workers.ended(0):
                if not outcome.error:
                    finished(jobs[number], outcome.result)
            raise
    if failures:
        raise JobsFailed(failures, len(jobs))


def _workers(
    function: Callable[..., Any],
    constants: Mapping[str, Any],
    count: int,
    folder: Path | None,
    workers: int | None = None,
    backend: str = "local",
    address: str | None = None,
) -> JobWorkers:
    """The processes of a place, at most one a job."""
    place = None if folder is None else Path(folder).expanduser().resolve()
    if backend == "ray":
        from persim_gym.jobs.cluster import RayWorkers  # It loads torch, which not every job needs.

        return RayWorkers(function, constants, place, None if workers is None else min(workers, count), address)
    shared = dict(constants) if place is None else {**constants, "folder": place}
    return LocalWorkers(pickle.dumps((function, shared)), min(workers or available_cores(), count))


def _label(job: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in job.items())


def _say_failed(job: Mapping[str, Any], error: str, verdict: str) -> None:
    tqdm.write(f"job {_label(job)} failed: {error}; {verdict}", file=sys.stderr)
