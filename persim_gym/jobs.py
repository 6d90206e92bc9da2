"""Runs many small jobs on all cores, keeps what is done, and goes on where it stopped."""

import csv
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numba
import torch
from tqdm import tqdm

from persim_gym.storage import reading, replaceable, replacing


def _start_worker() -> None:
    """One thread a worker: two on two busy cores are slower. A worker ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the first one decides.
    tqdm.set_lock(threading.RLock())  # Its own is a semaphore of the system, which a worker that is killed leaves.
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class RowLog:
    """A CSV file of finished jobs: one row a job, appended as they finish; rows of earlier runs are kept.

    Attributes:
        path: The file.
        keys: Columns that identify a job.
        values: Columns of its result.
    """

    def __init__(self, path: Path, keys: Sequence[str], values: Sequence[str], force: bool = False) -> None:
        """Reads what is there; a last line that was cut off is dropped.

        Args:
            path: The file.
            keys: Columns that identify a job.
            values: Columns of its result.
            force: Whether the file is begun anew, whatever is there.

        Raises:
            ValueError: If the file is no table or one of other columns, which is left as it is, or as `replaceable`.
        """
        self.path, self.keys, self.values = path, tuple(keys), tuple(values)
        self._rows: dict[tuple[str, ...], dict[str, str]] = {}
        columns = [*self.keys, *self.values]
        if replaceable(path, sign="").exists() and not force:
            with reading(path, "give another file, or --force to replace it"):
                text = path.read_text(encoding="utf-8")
                header = next(csv.reader(text.splitlines()[:1]), [])
                # A last line without its end was cut off.
                rows = list(csv.DictReader(text.rpartition("\n")[0].splitlines()))
            if text.strip() and header != columns:
                raise ValueError(
                    f"{path} is another table (its columns: {', '.join(header)}); give another file, or --force to "
                    "replace it"
                )
            for row in rows:
                if all(row.get(c) not in (None, "") for c in columns):
                    self._rows[tuple(row[k] for k in self.keys)] = row
        with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows.values())

    def get(self, key: Mapping[str, Any]) -> dict[str, str] | None:
        """The row of a job, or None if it has not finished."""
        return self._rows.get(tuple(str(key[k]) for k in self.keys))

    def add(self, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Appends a finished job."""
        row = {k: str(v) for k, v in {**key, **values}.items()}
        self._rows[tuple(row[k] for k in self.keys)] = row
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, [*self.keys, *self.values], extrasaction="ignore").writerow(row)


def run_jobs(
    function: Callable[..., Mapping[str, Any]],
    jobs: Iterable[Mapping[str, Any]],
    log: RowLog,
    *,
    description: str,
    constants: Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    workers: int | None = None,
    progress: bool = True,
) -> list[dict[str, str]]:
    """Runs the jobs that the log does not hold yet, in worker processes of one torch thread each.

    Args:
        function: Importable; called with a job's values as keywords; returns the log's value columns.
        jobs: Keyword values of each job, the log's key columns among them.
        log: Finished jobs.
        description: Of the progress bar.
        constants: Further keywords of the function, the same for all jobs, that do not identify a job.
        drop: Key columns that the function does not take.
        workers: Number of processes; None for one a core.
        progress: Whether to show a progress bar.

    Returns:
        The log's row of each job, in the order of the jobs.
    """
    jobs = list(jobs)
    missing = [job for job in jobs if log.get(job) is None]
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(missing), desc=description, disable=not progress)
    if missing:
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(
            min(workers or available_cores(), len(missing)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        )
        futures: dict[Future[Mapping[str, Any]], Mapping[str, Any]] = {}
        try:
            for job in missing:
                keywords = {k: v for k, v in job.items() if k not in drop}
                futures[pool.submit(function, **(constants or {}), **keywords)] = job
            for future in as_completed(futures):
                log.add(futures[future], future.result())
                bar.update()
        except BaseException:  # This is Ctrl-C, too.
            for future, job in futures.items():  # Some have finished since the last one was waited for.
                if future.done() and not future.cancelled() and not future.exception() and log.get(job) is None:
                    log.add(job, future.result())
            pool.shutdown(wait=False, cancel_futures=True)
            # Python waits for workers when it ends, and theirs would be in the middle of long compiled code.
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            pool.shutdown()
            raise
        pool.shutdown()
    bar.close()
    rows = [log.get(job) for job in jobs]
    return [row for row in rows if row is not None]
