"""Threads that share work: rollouts, cut into pieces or taken whole, and the training of ensemble members.

Threads gain where the work is compiled code or tensor operations, which release Python's lock. They belong to pools,
one for each number of threads, which live as long as the process. What a thread of a pool does is not shared any
further: one that waited for others of its pool could wait for ever.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import TypeAlias, TypeVar

import numba
import torch

# A member's epoch is trained in so many segments; between two of them it may change threads.
EPOCH_SEGMENTS = 4

Piece: TypeAlias = tuple[int, slice]
"""A member, and a range of candidates that it rolls out."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Thread(threading.local):
    """What each thread knows about itself: whether it belongs to a pool."""

    pooled = False


_THREAD = _Thread()


def run_pieces(function: Callable[[Piece], None], members: int, candidates: int, max_piece: int, unit: int) -> None:
    """Rolls out every candidate by every member, in pieces that torch's number of threads share.

    Args:
        function: Rolls out one piece; must release Python's lock for long enough to gain from threads.
        members: Members M.
        candidates: Candidates C.
        max_piece: Candidates a piece has at most, a multiple of `unit`. A thread takes the next piece when it has done
            one: small ones let them end together where other processes hold one up.
        unit: Candidates that together take as long as one; pieces begin at whole multiples of it.
    """
    threads = _usable_threads()
    pieces = split_pieces(members, candidates, threads, max_piece, unit)
    if threads == 1:
        for piece in pieces:
            function(piece)
    else:
        for _ in _pool(threads).map(function, pieces):
            pass


def run_each(function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Calls `function` on every item, shared item by item between torch's number of threads.

    The last items, too few for all threads, come one after the other, each with all threads to itself. Context
    variables and whether torch keeps gradients are the caller's in every thread.

    Args:
        function: Works on one item; must release Python's lock for long enough to gain from threads.
        items: In any order.
    """
    threads = _usable_threads()
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
    """Calls `function` on the only thread of a pool, where torch uses one thread too; returns what it returns.

    Neither torch's number of threads nor the thread that asks then shows in the last bits of the result. Calls from
    several threads come one after the other.
    """
    return _pool(1).submit(function).result()


def run_members(
    train: Callable[[int, int], None], members: int, segments: int, stop: Callable[[], None] | None = None
) -> None:
    """Calls `train(member, segment)` on all segments of each member in order, on Numba's number of threads.

    A free thread takes the member with the most segments left, so that threads end together whatever their number.
    A single thread is one of the pool too: torch's number of threads in the caller must not show in the weights.

    Args:
        train: Trains one member for one segment; must release Python's lock for long enough to gain from threads.
        members: Members M.
        segments: Segments of each.
        stop: Called when a call fails, or on Ctrl-C, so that the other calls, which may take minutes, end early.
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

    if _THREAD.pooled:
        return work()
    threads = min(_numba_threads(), members)
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
    """First step and the step behind the last of each segment of an epoch, the same whatever the number of threads.

    Args:
        steps: Steps of the epoch.
        sparse: Whether a segment ends with work on every agent; then there is only one.
    """
    segments = 1 if sparse else EPOCH_SEGMENTS
    edges = [round(k * steps / segments) for k in range(segments + 1)]
    return [(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True) if high > low]


def split_pieces(members: int, candidates: int, threads: int, max_piece: int, unit: int) -> Iterator[Piece]:
    """An equal share of the work for each thread, to `unit`, cut where the member changes or a piece grows too large.

    Arguments as `run_pieces`'s.
    """
    total = members * candidates
    shares = {round(i * total / threads) for i in range(threads + 1)}
    edges = sorted({share - share % candidates % unit for share in shares} | set(range(0, total + 1, candidates)))
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        member, first = divmod(low, candidates)
        size = -(-(high - low) // -(-(high - low) // max_piece))  # as few pieces as are small enough, of equal size
        size = -(-size // unit) * unit
        for start in range(first, first + high - low, size):
            yield member, slice(start, min(start + size, first + high - low))


def _usable_threads() -> int:
    """Threads to share work between: torch's number, but 1 in a thread of a pool."""
    return 1 if _THREAD.pooled else torch.get_num_threads()


def _numba_threads() -> int:
    """Numba's number of threads. Asking starts them and may set torch's number in this thread, which is restored."""
    usual = torch.get_num_threads()
    threads = numba.get_num_threads()
    torch.set_num_threads(usual)
    return threads


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """A pool of so many threads, in each of which torch uses one, made once; other threads keep torch's number."""
    with ThreadPoolExecutor(1) as other:
        usual = other.submit(torch.get_num_threads).result()
        all_started = threading.Barrier(threads, timeout=60)
        pool = ThreadPoolExecutor(threads, "persim", initializer=_start_thread, initargs=(all_started,))
        wait([pool.submit(int) for _ in range(threads)])
        other.submit(torch.set_num_threads, usual).result()  # threads to come take over what was set last
    return pool


def _start_thread(all_started: threading.Barrier) -> None:
    """Prepares a thread of a pool, and waits for the others: all of them are there before any takes work."""
    torch.get_num_threads()  # when first asked in a thread, torch takes over what was set last, in any of them
    torch.set_num_threads(1)
    _THREAD.pooled = True
    all_started.wait()


def _after_fork() -> None:
    """Threads do not survive a fork: a forked worker has no pool, and would wait forever for torch's other threads."""
    _pool.cache_clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
