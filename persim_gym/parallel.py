"""Work shared between threads: rollouts of some candidates, whole or a member's, parts of a member's epoch."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import TypeAlias, TypeVar

import numba
import torch

EPOCH_SEGMENTS = 4  # Parts of an epoch that threads may take turns at.

Piece: TypeAlias = tuple[int, slice]
"""A member and some of its candidates."""
Item = TypeVar("Item")
Result = TypeVar("Result")
_HERE = threading.local()


def run_pieces(function: Callable[[Piece], None], members: int, candidates: int, most: int, unit: int) -> None:
    """Calls `function` on pieces that together are every candidate of every member, on torch's number of threads.

    Args:
        function: Rolls out one piece; must release Python's lock for long enough to gain from threads.
        members: Members M.
        candidates: Candidates C.
        most: Candidates a piece has at most, a multiple of `unit`. A thread takes the next piece when it has done one:
            small ones let them end together where other processes hold one up.
        unit: Candidates that take as long as one; pieces begin at whole multiples of it.
    """
    threads = _free()
    pieces = split_pieces(members, candidates, threads, most, unit)
    if threads == 1:
        for piece in pieces:
            function(piece)
    else:
        for _ in _pool(threads).map(function, pieces):
            pass


def run_each(function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Calls `function` on every item, on torch's number of threads, each of which takes whole items.

    The last few, too few for all threads, come one after the other, each with all threads to itself. Context variables
    and whether torch keeps gradients are the caller's in every thread.

    Args:
        function: Works on one item; must release Python's lock for long enough to gain from threads.
        items: In any order.
    """
    threads = _free()
    beside = len(items) - len(items) % threads if threads > 1 and len(items) > 1 else 0
    context, gradients = copy_context(), torch.is_grad_enabled()

    def work(item: Item) -> None:
        with torch.set_grad_enabled(gradients):
            context.copy().run(function, item)

    if beside:
        for _ in _pool(threads).map(work, items[:beside]):
            pass
    for item in items[beside:]:
        function(item)


def run_on_own_thread(function: Callable[[], Result]) -> Result:
    """What `function` returns, called on a thread of its own, in which torch uses one, one call at a time.

    Neither torch's number of threads nor the thread that asks then shows in the last bits of what comes out.
    """
    return _pool(1).submit(function).result()


def run_members(
    train: Callable[[int, int], None], members: int, segments: int, stop: Callable[[], None] | None = None
) -> None:
    """Calls `train(member, segment)` on all segments of each member in order, on Numba's number of threads.

    A free thread takes the member with the most segments left, so that threads end together whatever their number.
    One thread is one of the pool too: what torch was told in the caller's must not show in the weights.

    Args:
        train: Trains one member for one segment; must release Python's lock for long enough to gain from threads.
        members: Members M.
        segments: Segments of each.
        stop: Called where one fails, or on Ctrl-C, so that the others, which may take minutes, end early.
    """
    left = [segments] * members
    idle = set(range(members))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                waiting = [m for m in idle if left[m]]
                if not waiting:
                    return  # what is left belongs to members that other threads are at
                m = max(waiting, key=lambda m: (left[m], -m))
                idle.remove(m)
                segment = segments - left[m]
                left[m] -= 1
            try:
                train(m, segment)
            except BaseException:
                with lock:
                    left[:] = [0] * members
                raise
            with lock:
                idle.add(m)

    threads = min(_of_numba(), members)
    if getattr(_HERE, "pooled", False):
        return work()
    futures = [_pool(threads).submit(work) for _ in range(threads)]
    try:
        for future in futures:
            future.result()
    except BaseException:
        with lock:
            left[:] = [0] * members
        if stop is not None:
            stop()
        wait(futures)
        raise


def epoch_segments(steps: int, sparse: bool = False) -> list[tuple[int, int]]:
    """First and last step, exclusive, of each segment of an epoch: the same whatever the number of threads.

    Args:
        steps: Steps of the epoch.
        sparse: Whether a segment ends with work on every agent; then there is only one.
    """
    segments = 1 if sparse else EPOCH_SEGMENTS
    edges = [round(k * steps / segments) for k in range(segments + 1)]
    return [(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True) if high > low]


def split_pieces(members: int, candidates: int, threads: int, most: int, unit: int) -> Iterator[Piece]:
    """Pieces of equal shares of the work, to `unit`, cut where the member changes and where they grow too large."""
    total = members * candidates
    shares = {round(i * total / threads) for i in range(threads + 1)}
    edges = sorted({share - share % candidates % unit for share in shares} | set(range(0, total + 1, candidates)))
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        member, first = divmod(low, candidates)
        size = -(-(high - low) // -(-(high - low) // most))  # as few pieces as are small enough, of equal size
        size = -(-size // unit) * unit
        for start in range(first, first + high - low, size):
            yield member, slice(start, min(start + size, first + high - low))


def _free() -> int:
    """Threads to share work between: torch's number; 1 in a thread of a pool, which must not wait for the others."""
    return 1 if getattr(_HERE, "pooled", False) else torch.get_num_threads()


def _of_numba() -> int:
    """Numba's number of threads. Asking it starts them, which may set torch's number in this thread as well."""
    usual = torch.get_num_threads()
    threads = numba.get_num_threads()
    torch.set_num_threads(usual)
    return threads


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch itself uses no more of them."""
    with ThreadPoolExecutor(1) as other:
        usual = other.submit(torch.get_num_threads).result()
        all_started = threading.Barrier(threads, timeout=60)
        pool = ThreadPoolExecutor(threads, "persim", initializer=_start, initargs=(all_started,))
        wait([pool.submit(int) for _ in range(threads)])
        other.submit(torch.set_num_threads, usual).result()  # of threads to come, which have what was set last
    return pool


def _start(all_started: threading.Barrier) -> None:
    torch.get_num_threads()  # when first asked in a thread, torch takes what was set last, in any of them
    torch.set_num_threads(1)
    _HERE.pooled = True
    all_started.wait()


def _after_fork() -> None:
    """Threads do not survive a fork: a forked worker has no pool, and would wait forever for torch's other threads."""
    _pool.cache_clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
