"""Jobs in processes of this machine: one of one thread a core, each with a pipe of its own.

A process that is killed takes nothing but its own job with it, and another one takes its place.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from tqdm import tqdm

from persim_gym.jobs.attempt import Outcome, attempt

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables by which libraries choose their number of threads when they are loaded."""
EXIT_SECONDS = 5.0  # So long a process may take to end once it has nothing to do.


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started meanwhile compute on one thread each: two on two busy cores are slower."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection) -> None:
    """What a worker process does: says that it is there, gets the function, and then job after job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the first one decides.
    tqdm.set_lock(threading.RLock())  # Its own is a semaphore of the system, which a worker that is killed leaves.
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with suppress(EOFError, OSError):  # The other end is closed once there is nothing left to do.
        connection.send_bytes(b"ready")
        call = connection.recv_bytes()
        while True:
            connection.send_bytes(attempt(call, pickle.loads(connection.recv_bytes())))


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


class _Worker:
    """A worker process, our end of its pipe, and the job that it has or will have.

    Attributes:
        ready: Whether it has said that it is there; until then nothing is sent, as a full pipe would block.
        number: Of its job.
        keywords: Of its job, pickled.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        with _one_thread():
            self.process.start()
        theirs.close()
        self.ready, self.number, self.keywords = False, -1, b""

    def send(self, *messages: bytes) -> None:
        with suppress(OSError):  # One that has died shows when it is waited for.
            for message in messages:
                self.connection.send_bytes(message)

    def receive(self) -> bytes | None:
        """What it has sent; None if it has died."""
        with suppress(EOFError, OSError):
            if self.connection.poll():
                return self.connection.recv_bytes()
        return None

    def end(self, patience: float) -> str:
        """Ends it, by force after so many seconds; returns what it ended with."""
        self.connection.close()
        self.process.join(patience)
        self.process.kill()
        self.process.join()
        code = self.process.exitcode or 0
        if code >= 0:
            return f"its process ended with status {code}"
        name = signal.Signals(-code).name
        return f"its process was killed ({name}{': out of memory?' if name == 'SIGKILL' else ''})"


class LocalWorkers:
    """Runs jobs in processes of this machine; as `persim_gym.jobs.run.JobWorkers`."""

    def __init__(self, call: bytes, slots: int) -> None:
        """Starts nothing yet.

        Args:
            call: As `attempt`.
            slots: Processes.
        """
        self.slots, self._call = slots, call
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._can_start = False

    def start(self, number: int, keywords: Mapping[str, Any], reads: Iterable[str] = ()) -> None:
        """Gives a job to a process; what it reads is on this machine's disk."""
        while self._idle and not self._idle[-1].process.is_alive():
            self._idle.pop().end(0)
        worker = self._idle.pop() if self._idle else _Worker()
        self._busy.append(worker)
        worker.number, worker.keywords = number, pickle.dumps(dict(keywords))
        if worker.ready:
            worker.send(worker.keywords)

    def ended(self, timeout: float | None) -> Iterator[tuple[int, Outcome]]:
        """Waits for news of a process; yields the jobs that have ended, which may be none."""
        news = wait([x for w in self._busy for x in (w.connection, w.process.sentinel)], timeout)
        for worker in [w for w in self._busy if w.connection in news or w.process.sentinel in news]:
            message = worker.receive()
            if message is not None and not worker.ready:
                worker.ready = self._can_start = True
                worker.send(self._call, worker.keywords)
                continue
            self._busy.remove(worker)
            if message is not None:
                self._idle.append(worker)
                yield worker.number, pickle.loads(message)
                continue
            end = worker.end(EXIT_SECONDS)
            if not self._can_start:
                raise RuntimeError(
                    f"no worker process starts ({end}); a script that runs jobs must do so under "
                    '`if __name__ == "__main__":`, because each worker imports it'
                )
            yield worker.number, Outcome(error=end)

    def __enter__(self) -> "LocalWorkers":
        """Is itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all processes: at once where something went wrong, as they may be in long compiled code."""
        workers = [*self._idle, *self._busy]
        for worker in workers:
            if kind is None:
                worker.connection.close()
            else:
                worker.process.kill()
        for worker in workers:
            worker.end(EXIT_SECONDS)
