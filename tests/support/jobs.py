"""Jobs that worker processes import, and jobs that run here."""

import os
import pickle
import signal
import time
from collections import deque
from pathlib import Path

from persim_gym.jobs.attempt import attempt


def hear_ctrl_c():
    """Runs in a new process before its program: what a shell starts in the background ignores Ctrl-C, as do its own."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def square(number, plus=0):
    """A job for `run_jobs`, in a worker."""
    if number < 0:
        raise ValueError("no")
    return {"square": number**2 + plus, "process": os.getpid()}


def soon_or_never(number):
    """A job that takes no time, or an hour."""
    if number:
        time.sleep(3600)
    return {"value": number}


def first_time(folder, name):
    """Whether nobody has asked this before, in any process."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def unlucky_square(number, marks, fails=(), dies=()):
    """A square; some numbers raise an error the first time, others kill their process."""
    if number in fails and first_time(marks, f"failed-{number}"):
        raise RuntimeError(f"not yet,\nnumber {number}")
    if number in dies and first_time(marks, f"died-{number}"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": number**2}


def square_somewhere(number, marks):
    """A square that is there once a node has been killed; tells first on which node of a Ray cluster it runs."""
    import ray

    (Path(marks) / f"{number}-{time.time_ns()}").write_text(ray.get_runtime_context().get_node_id())
    while not (Path(marks) / "killed").exists():
        time.sleep(0.1)
    return {"square": number**2}


def doomed_square(number, dies):
    """A square; some numbers kill their process every time."""
    if number in dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": number**2}


def two_rows(number, only=("half", "double")):
    """A job of two rows."""
    values = {"half": number / 2, "double": number * 2}
    return [{"metric": metric, "value": values[metric]} for metric in only]


def write_model(name, folder):
    """The first of two stages: writes a folder with a card."""
    assert not (folder / name).exists()
    (folder / name / "deep").mkdir(parents=True)
    for path in ("weights.bin", "deep/more.bin", "card.json"):
        (folder / name / path).write_text(f"{path} of {name}")
    return {"length": len(name)}


def read_model(name, folder):
    """The second stage: reads what the first has written, and says what else is there."""
    text = (folder / name / "card.json").read_text() + (folder / name / "deep" / "more.bin").read_text()
    (folder / f"{name}.txt").write_text(text)
    seen = sorted(path.name for path in folder.iterdir() if path.suffix != ".txt")
    return {"text": text, "seen": " ".join(seen), "at": str(folder)}


class WorkersHere:
    """Stands for `LocalWorkers`: runs one job after the other in this process."""

    def __init__(self, call, slots):
        self.slots, self.call, self.waiting = slots, call, deque()

    def start(self, number, keywords, reads):
        self.waiting.append((number, keywords))

    def ended(self, timeout):
        if self.waiting:
            number, keywords = self.waiting.popleft()
            yield number, pickle.loads(attempt(self.call, keywords))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.waiting.clear()


def run_here(function, jobs, log, *, constants=None, drop=(), folder=None, **_):
    """Stands for `run_jobs`: the same in this process."""
    shared = {**(constants or {}), **({} if folder is None else {"folder": folder})}
    for job in jobs:
        if log.get(job) is None:
            log.add(job, function(**shared, **{k: v for k, v in job.items() if k not in drop}))
    return [log.get(job) for job in jobs]
