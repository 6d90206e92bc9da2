"""Work of rollouts shared between threads: whole rollouts of some candidates, so that threads never wait in between."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeAlias

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
