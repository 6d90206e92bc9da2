"""Adam on a large table of which a step touches few rows: cost independent of the table's size.

Dense Adam moves every row at every step: without a gradient the first moment decays by BETA1, the root of the second
by sqrt(BETA2), and the row still moves by their quotient. A row's moves over k steps without a gradient have a closed
form, `first / (sqrt(second) + epsilon) * sum_j size_j keep^j` with keep = BETA1 / sqrt(BETA2), whose sum is a
difference of two tails. So a row is brought up to date when a batch next needs it, and all rows at the end of an epoch.
The result is that of dense Adam up to rounding; the one approximation, that epsilon does not grow against the decaying
root within the few steps that the sum lasts, is a two-hundredth of epsilon's own share.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults
FORGOTTEN = 400  # steps after which a first moment is zero: 0.9^400 is 5e-19


def is_sparse(n_agents: int, batch: int) -> bool:
    """Whether the table of agents is large enough, for the batch, that row-wise updates are the cheaper ones."""
    return n_agents > 32 * batch


@njit(cache=True)
def lazy_tables(rates, count):  # type: ignore
    """What steps 1..S of an epoch need, after `count` steps before it.

    Returns:
        Adam's step sizes [S + 1] and epsilons [S + 2], float32, with bias correction; tails [S + 1], float64: the sum
        over j >= 1 of size[i + j] keep^j; and powers of BETA1, of BETA2 (float32) and of keep (float64), [S + 1].
    """
    steps = len(rates)
    size, epsilon = np.zeros(steps + 1, dtype=np.float32), np.zeros(steps + 2, dtype=np.float32)
    tail, keep = np.zeros(steps + 1), np.zeros(steps + 1)
    keep1, keep2 = np.zeros(steps + 1, dtype=np.float32), np.zeros(steps + 1, dtype=np.float32)
    for i in range(1, steps + 1):
        debias = np.sqrt(1.0 - BETA2 ** (count + i))
        size[i] = rates[i - 1] * debias / (1.0 - BETA1 ** (count + i))
        epsilon[i] = EPSILON * debias
    epsilon[steps + 1] = epsilon[steps]
    for i in range(steps, 0, -1):
        tail[i - 1] = BETA1 / np.sqrt(BETA2) * (size[i] + tail[i])
    for k in range(steps + 1):
        keep2[k] = BETA2**k
        if k <= FORGOTTEN:
            keep1[k], keep[k] = BETA1**k, (BETA1 / np.sqrt(BETA2)) ** k
    return size, epsilon, tail, keep1, keep2, keep


class RowAdam:
    """Adam on the rows of a table, in tensor operations.

    Attributes:
        moments: First and second moments, [2, rows, R].
    """

    def __init__(self, table: Tensor) -> None:
        """Binds a table, [rows, R], updated in place."""
        self._table = table
        self.moments = torch.zeros(2, *table.shape, device=table.device)
        self._grad = torch.zeros_like(table)
        self._last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._tables: list[Tensor] = []
        self._step = 0
        self._now: tuple[Tensor, Tensor, Tensor] | None = None

    def start(self, rates: np.ndarray, count: int) -> None:  # type: ignore[type-arg]
        """Begins an epoch with these learning rates, [S], after `count` steps before it."""
        self._tables = [torch.from_numpy(t).to(self._table.device) for t in lazy_tables(rates, count)]
        self._step = 0

    def fetch(self, rows: Tensor) -> Tensor:
        """Values of the rows, which may repeat, before the coming step, [len(rows), R]."""
        self._now = self._caught_up(rows)
        return self._now[0]

    def update(self, rows: Tensor, grad: Tensor) -> None:
        """One step with the gradient of each of the rows last fetched, [len(rows), R]; those of equal rows add up."""
        assert self._now is not None
        value, first, second = self._now
        self._step += 1
        self._grad.index_add_(0, rows, grad)
        total = self._grad.index_select(0, rows)
        self._grad.index_fill_(0, rows, 0.0)
        first = first * BETA1 + total * (1 - BETA1)
        second = second * BETA2 + total.square() * (1 - BETA2)
        size, epsilon = self._tables[0][self._step], self._tables[1][self._step]
        self._write(rows, value - size * first / (second.sqrt() + epsilon), first, second)

    def finish(self) -> None:
        """Brings every row up to date."""
        rows = torch.arange(len(self._table), device=self._table.device)
        self._write(rows, *self._caught_up(rows))
        self._last.zero_()

    def _caught_up(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        _, epsilon, tail, keep1, keep2, keep = self._tables
        last = self._last[rows]
        gap = self._step - last
        mass = (tail[last] - keep[gap] * tail[self._step]).to(self._table.dtype)
        value, (first, second) = self._table[rows], self.moments[:, rows]
        value = value - mass[:, None] * first / (second.sqrt() + epsilon[last + 1][:, None])
        return value, first * keep1[gap][:, None], second * keep2[gap][:, None]

    def _write(self, rows: Tensor, value: Tensor, first: Tensor, second: Tensor) -> None:
        """Equal rows hold equal values, so that the order of writing does not matter."""
        self._table.index_copy_(0, rows, value)
        self.moments[0].index_copy_(0, rows, first)
        self.moments[1].index_copy_(0, rows, second)
        self._last.index_fill_(0, rows, self._step)
