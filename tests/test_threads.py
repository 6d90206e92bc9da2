"""Work that is shared between threads."""

import threading
import time

import numba
import pytest

from persim_gym.simulator.threads import cut, run_members


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
    assert cut(10) == [(0, 2), (2, 5), (5, 8), (8, 10)]
    assert sum(high - low for low, high in cut(2)) == 2
