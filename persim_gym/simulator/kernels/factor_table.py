"""Latent factors of many agents in compiled steps: what row-wise Adam needs of one, in as few cache lines as hold it.

A row is the agent's values, first moments and second moments [R each] and the step at which it was last written, padded
to whole cache lines and aligned with them: one line up to rank 5, two up to rank 10. See `sparse.py` for the method.
"""

import numpy as np
from numba import njit

from persim_gym.simulator.kernels.adam import EPSILON, FORGOTTEN_STEPS

# A cache fetches 64 bytes at once, so many float32 numbers.
CACHE_LINE_FLOATS = 16


@njit(cache=True)
def pack_rows(table, first, second):  # type: ignore
    """One row an agent, [N, 3 R + 1 rounded up]."""
    agents, rank = table.shape
    width = -(-(3 * rank + 1) // CACHE_LINE_FLOATS) * CACHE_LINE_FLOATS
    room = np.zeros(agents * width + CACHE_LINE_FLOATS, dtype=np.float32)
    start = -(room.ctypes.data // 4) % CACHE_LINE_FLOATS
    memory = room[start : start + agents * width].reshape(agents, width)
    for n in range(agents):
        for r in range(rank):
            memory[n, r], memory[n, rank + r], memory[n, 2 * rank + r] = table[n, r], first[n, r], second[n, r]
    return memory


@njit(cache=True)
def different_agents(rows, place, where, touched):  # type: ignore
    """The agents of a batch without repeats; returns their number.

    Fills where [B] with each transition's place among them, and touched with the agents. `place`, int32 [N], is zero
    before and after.
    """
    different = 0
    for b in range(len(rows)):
        n = int(rows[b, 0])
        if place[n] == 0:
            touched[different] = n
            different += 1
            place[n] = different
        where[b] = place[n] - 1
    for i in range(different):
        place[touched[i]] = 0
    return different


@njit(fastmath=True, cache=True, error_model="numpy")
def fetch_rows(memory, agents, rows, step, tables):  # type: ignore
    """Brings agents up to date after the steps without a gradient up to `step`.

    Args:
        memory: What `pack_rows` made.
        agents: Whose, [A].
        rows: Get the values and the first and second moments, [at least A, R] each.
        step: Steps made.
        tables: Tails, powers and decay of `lazy_tables`.
    """
    now, now_first, now_second = rows
    tail, tail_epsilon, powers, decay = tables
    rank = now.shape[1]
    for i in range(len(agents)):
        n = agents[i]
        last = int(memory[n, 3 * rank])
        gap = step - last
        short = min(gap, FORGOTTEN_STEPS)
        total = tail[last] - powers[1, short] * tail[step]
        mean = (tail_epsilon[last] - powers[2, short] * tail_epsilon[step]) / total if total else EPSILON
        mass, epsilon = np.float32(total), np.float32(mean)
        keep_first, keep_second = np.float32(powers[0, short]), decay[gap]
        for r in range(rank):
            first, second = memory[n, rank + r], memory[n, 2 * rank + r]
            now[i, r] = memory[n, r] - mass * first / (np.sqrt(second) + epsilon)
            now_first[i, r] = first * keep_first
            now_second[i, r] = second * keep_second


@njit(cache=True)
def store_rows(memory, agents, rows, step):  # type: ignore
    """Writes rows back that were fetched, as they are after `step` steps."""
    now, now_first, now_second = rows
    rank = now.shape[1]
    for i in range(len(agents)):
        n = agents[i]
        for r in range(rank):
            memory[n, r], memory[n, rank + r], memory[n, 2 * rank + r] = now[i, r], now_first[i, r], now_second[i, r]
        memory[n, 3 * rank] = step
