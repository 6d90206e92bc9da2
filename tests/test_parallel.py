"""Work that is shared between threads."""

import contextlib
import contextvars
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest
import torch

from persim_gym.parallel import epoch_segments, run_each, run_members, run_on_own_thread, run_pieces, split_pieces


@pytest.mark.parametrize("threads", [1, 2])
def test_every_member_gets_its_segments_in_order_and_never_two_at_once(threads, monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    done = {m: [] for m in range(5)}
    busy, used = set(), set()

    def train(m, k):
        assert m not in busy
        busy.add(m)
        used.add(threading.get_ident())
        time.sleep(0.001)
        done[m].append(k)
        busy.remove(m)

    run_members(train, 5, 4)
    assert done == {m: [0, 1, 2, 3] for m in range(5)}
    assert len(used) == threads


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_failure_is_raised_and_stops_the_others(threads, monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    calls, stopped = [], []

    def train(m, k):
        calls.append(m)
        if m == 1:
            raise ArithmeticError("diverged")
        time.sleep(0.001)

    with pytest.raises(ArithmeticError, match="diverged"):
        run_members(train, 5, 100, lambda: stopped.append(True))
    assert len(calls) < 50
    assert stopped or threads == 1


def test_an_epoch_is_cut_into_whole_steps():
    assert epoch_segments(10) == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert sum(high - low for low, high in epoch_segments(2)) == 2


def test_threads_of_a_pool_stay_with_their_own_work_whatever_torch_is_told_later(torch_threads):
    torch_threads(4)
    run_pieces(lambda piece: None, 2, 8, 1, 1)  # starts threads that do not ask torch for anything
    torch_threads(4)  # as `PersimEnv` does, after it has set another number
    numbers, inside = [], set()
    run_each(lambda item: numbers.append(torch.get_num_threads()), range(8))
    assert numbers == [1] * 8  # else the next line would wait for ever: each of them for another one

    def share(item):
        here = threading.current_thread()
        run_pieces(lambda piece: inside.add((here, threading.current_thread())), 2, 8, 1, 1)

    run_each(share, range(8))
    assert inside and all(outer is inner for outer, inner in inside)


def test_starting_threads_leaves_torch_s_number_to_all_others(torch_threads):
    torch_threads(6)
    numbers = []
    run_on_own_thread(lambda: run_pieces(lambda piece: None, 1, 1, 1, 1))
    run_each(lambda item: None, range(6))
    numbers.append(torch.get_num_threads())
    other = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert numbers == [6, 6]


def test_items_find_the_context_and_the_gradient_mode_of_the_caller(torch_threads):
    torch_threads(2)
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(3)
    found = set()
    with torch.no_grad():
        run_each(lambda item: found.add((variable.get(), torch.is_grad_enabled())), range(5))
    assert found == {(3, False)}
    run_each(lambda item: found.add((variable.get(), torch.is_grad_enabled())), range(4))
    assert found == {(3, False), (3, True)}


def test_work_alone_is_done_one_at_a_time_on_one_thread(torch_threads):
    torch_threads(2)
    busy = threading.Lock()

    def work():
        assert busy.acquire(blocking=False)
        time.sleep(0.001)
        busy.release()
        return threading.current_thread(), torch.get_num_threads()

    found = set()
    run_each(lambda item: found.add(run_on_own_thread(work)), range(6))
    assert len(found) == 1 and found.pop()[1] == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_members_train_in_threads_where_torch_uses_one_whatever_the_callers_number(threads, torch_threads, monkeypatch):
    torch_threads(2)
    monkeypatch.setattr(numba, "get_num_threads", lambda: threads)
    seen = set()
    run_members(
        lambda m, k: seen.add((threading.current_thread() is threading.main_thread(), torch.get_num_threads())), 3, 2
    )
    assert seen == {(False, 1)}


def test_asking_numba_for_its_threads_leaves_torch_s_number_alone():
    """In a process of its own: they start once."""
    code = "import torch; torch.set_num_threads(1); torch.get_num_threads(); from persim_gym import parallel; "
    code += "print(parallel._numba_threads(), torch.get_num_threads())"
    environment = {**os.environ, "NUMBA_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1"]


@pytest.mark.parametrize(("members", "candidates", "threads"), [(5, 200, 2), (1, 7, 3), (3, 1000, 2), (5, 1, 2)])
def test_pieces_are_everything_once_in_equal_shares(members, candidates, threads):
    done = np.zeros((members, candidates))
    for member, rows in split_pieces(members, candidates, threads, 144, 16):
        assert 0 < len(done[member, rows]) <= 144 and rows.start % 16 == 0
        done[member, rows] += 1
    assert (done == 1).all()


def test_each_item_is_worked_on_once_and_an_error_in_one_is_raised(torch_threads):
    torch_threads(2)
    done = []
    run_each(done.append, range(5))
    assert sorted(done) == [0, 1, 2, 3, 4]
    with pytest.raises(ZeroDivisionError):
        run_each(lambda item: 1 // item, [1, 0, 2, 3])


FORK = """
import os, signal
import torch
from persim_gym import parallel
torch.set_num_threads(2)
matrix = torch.ones(600, 600)
parallel.run_each(lambda item: matrix @ matrix, range(4))
(matrix @ matrix).exp().sum()
child = os.fork()
if not child:
    signal.alarm(30)
    several = [int((matrix @ matrix).sum())]
    parallel.run_each(lambda item: several.append(int((matrix @ matrix).sum())), range(3))
    os._exit(torch.get_num_threads() if several == [600**3] * 4 else 99)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_multiplies_on_one_thread_and_does_not_wait_for_those_that_are_gone():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["1", "2"]  # the child's threads, as its status, and the parent's


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_worker_does_everything_that_this_process_does(method, save_robot, tmp_path):
    """In a process of its own, which ends with a traceback where one hangs."""
    command = [sys.executable, "-W", "ignore", "-m", "support.workers", method, str(save_robot("halfcheetah"))]
    root = Path(__file__).parent
    paths = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": paths}
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            assert process.wait(timeout=300) == 0, output.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):  # Workers that hang do not end with it.
                os.killpg(process.pid, signal.SIGKILL)
    assert output.read_text().endswith("entry points\n")
