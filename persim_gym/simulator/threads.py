"""Work shared between threads: whole rollouts of some candidates, whole epochs of a member; none waits in between."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeAlias

import numba
import torch

Piece: TypeAlias = tuple[int, slice]
"""A member and some of its candidates."""


def run_pieces(function: Callable[[Piece], None], members: int, candidates: int, most: int) -> None:
    """Calls `function` on pieces that together are every candidate of every member, on torch's number of threads.

    Args:
        function: Rolls out one piece; must release Python's lock for long enough to gain from threads.
        members: Members M.
        candidates: Candidates C.
        most: Candidates a piece has at most.
    """
    threads = torch.get_num_threads()
    pieces = split(members, candidates, threads, most)
    if threads == 1:
        for piece in pieces:
            function(piece)
    else:
        for _ in _pool(threads).map(function, pieces):
            pass


def run_members(train: Callable[[int], float], members: int, stop: Callable[[], None] | None = None) -> list[float]:
    """Calls `train` on each member, on Numba's number of threads; returns the results in the order of members.

    Args:
        train: Trains one member; must release Python's lock for long enough to gain from threads.
        members: Members M.
        stop: Called where one fails, or on Ctrl-C, so that the others, which may take minutes, end early.
    """
    threads = min(numba.get_num_threads(), members)
    if threads == 1:
        return [train(m) for m in range(members)]
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(train, m) for m in range(members)]
        try:
            return [future.result() for future in futures]
        except BaseException:
            if stop is not None:
                stop()
            raise


def split(members: int, candidates: int, threads: int, most: int) -> Iterator[Piece]:
    """Pieces of equal shares of the work, cut where the member changes and where they grow too large."""
    total = members * candidates
    shares = {round(i * total / threads) for i in range(threads + 1)}
    edges = sorted(shares | set(range(0, total + 1, candidates)))
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        member, first = divmod(low, candidates)
        size = -(-(high - low) // -(-(high - low) // most))  # as few pieces as are small enough, of equal size
        for start in range(first, first + high - low, size):
            yield member, slice(start, min(start + size, first + high - low))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch itself uses no more of them."""
    return ThreadPoolExecutor(threads, "rollout", initializer=torch.set_num_threads, initargs=(1,))
