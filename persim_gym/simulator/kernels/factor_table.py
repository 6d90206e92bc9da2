"""Latent factors of many agents in compiled training steps that update only the agents of a batch.

What row-wise Adam needs of an agent lies in one row: its factor, the first and second moments of it, R numbers each,
and the step at which it was last written, so that a step waits for one place in memory instead of three. A row begins
with a cache line, the piece of memory that is fetched at once, and takes whole ones: one up to rank 5, two up to rank
10. `adam.py` has the arithmetic of steps that an agent has missed.
"""

import numpy as np
from numba import njit

from persim_gym.simulator.kernels.adam import EPSILON, FORGOTTEN_STEPS

# A cache line is 64 bytes.
CACHE_LINE_FLOATS = 16


@njit(cache=True, nogil=True)
def pack_rows(factors):  # type: ignore
    """A row for each agent, [N, 3 R + 1 rounded up to cache lines], from an `AdamState` of factors, [N, R]."""
    agents, rank = factors.value.shape
    width = -(-(3 * rank + 1) // CACHE_LINE_FLOATS) * CACHE_LINE_FLOATS
    room = np.zeros(agents * width + CACHE_LINE_FLOATS, dtype=np.float32)
    start = -(room.ctypes.data // 4) % CACHE_LINE_FLOATS
    table = room[start : start + agents * width].reshape(agents, width)
    store_rows(table, np.arange(agents), factors, 0)
    return table


@njit(cache=True)
def different_agents(rows, place, where, touched):  # type: ignore
    """Lists the agents of a batch, each once; returns their number.

    Args:
        rows: The batch's transitions, which begin with their agents, [B, ...].
        place: Work space, int32 [N], which is zero before and after.
        where: Receives the place of each transition's agent in the list, [B].
        touched: Receives the list, [B].
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


@njit(fastmath=True, cache=True, nogil=True, error_model="numpy")
def fetch_rows(table, agents, factors, step, tables):  # type: ignore
    """Reads agents from the table, as they are after the steps without a gradient up to `step`.

    Args:
        table: What `pack_rows` made.
        agents: Whose rows, [A].
        factors: `AdamState` that receives them, [at least A, R].
        step: Steps made.
        tables: `AdamTables`.
    """
    rank = factors.value.shape[1]
    for i in range(len(agents)):
        n = agents[i]
        last = int(table[n, 3 * rank])
        gap = step - last
        short = min(gap, FORGOTTEN_STEPS)
        total = tables.tail[last] - tables.powers[1, short] * tables.tail[step]
        weighted = tables.tail_epsilon[last] - tables.powers[2, short] * tables.tail_epsilon[step]
        mass, epsilon = np.float32(total), np.float32(weighted / total if total else EPSILON)
        keep_first, keep_second = np.float32(tables.powers[0, short]), tables.decay[gap]
        for r in range(rank):
            first, second = table[n, rank + r], table[n, 2 * rank + r]
            factors.value[i, r] = table[n, r] - mass * first / (np.sqrt(second) + epsilon)
            factors.first[i, r] = first * keep_first
            factors.second[i, r] = second * keep_second


@njit(cache=True)
def store_rows(table, agents, factors, step):  # type: ignore
    """Writes agents' factors and moments into the table, as they are after `step` steps."""
    rank = factors.value.shape[1]
    for i in range(len(agents)):
        n = agents[i]
        for r in range(rank):
            table[n, r] = factors.value[i, r]
            table[n, rank + r] = factors.first[i, r]
            table[n, 2 * rank + r] = factors.second[i, r]
        table[n, 3 * rank] = step
