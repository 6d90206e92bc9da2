"""Adam on a large table of which a step touches few rows: cost independent of the table's size.

Dense Adam moves every row at every step: without a gradient the first moment decays by BETA1, the root of the second
by sqrt(BETA2), and the row still moves by their quotient. The moves over k steps without a gradient have a closed form,
`first / (sqrt(second) + e) * sum_j size_j keep^j` with keep = BETA1 / sqrt(BETA2), whose sum is a difference of two
tails; e is the mean of Adam's epsilon over the decaying root, weighted as the sum is. So a row is brought up to date
when a batch next needs it, and all rows at the end of an epoch. The result is that of dense Adam to rounding and to
first order in epsilon.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.simulator.kernels.adam import BETA1, BETA2, EPSILON, FORGOTTEN_STEPS, lazy_tables


class SparseAdam:
    """Adam on the rows of a table, in tensor operations.

    Attributes:
        moments: First and second moments, [2, rows, R].
    """

    def __init__(self, table: Tensor) -> None:
        """Binds a table, [rows, R], updated in place."""
        self._table = table
        self.moments = torch.zeros(2, *table.shape, dtype=table.dtype, device=table.device)
        self._grad = torch.zeros_like(table)
        self._last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._tables: list[Tensor] = []
        self._step = 0
        self._now: tuple[Tensor, Tensor, Tensor] | None = None

    def start(self, rates: NDArray[np.float64], count: int) -> None:
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
        _, _, tail, tail_epsilon, powers, decay = self._tables
        last = self._last[rows]
        gap = self._step - last
        first_power, power, power_epsilon = powers[:, gap.clamp(max=FORGOTTEN_STEPS)]
        mass = tail[last] - power * tail[self._step]
        epsilon = ((tail_epsilon[last] - power_epsilon * tail_epsilon[self._step]) / mass).nan_to_num(EPSILON)
        kind = self._table.dtype
        value, (first, second) = self._table[rows], self.moments[:, rows]
        value = value - mass.to(kind)[:, None] * first / (second.sqrt() + epsilon.to(kind)[:, None])
        second_power = decay[gap]
        return value, first * first_power.to(kind)[:, None], second * second_power.to(kind)[:, None]

    def _write(self, rows: Tensor, value: Tensor, first: Tensor, second: Tensor) -> None:
        """Equal rows hold equal values, so that the order of writing does not matter."""
        self._table.index_copy_(0, rows, value)
        self.moments[0].index_copy_(0, rows, first)
        self.moments[1].index_copy_(0, rows, second)
        self._last.index_fill_(0, rows, self._step)
