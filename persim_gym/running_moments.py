"""Means and standard deviations of columns that are read piece by piece."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Sums over the known values of columns, around the first of them, so that none cancels."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._sums: dict[str, list[NDArray[np.float64]]] = {}

    def add(self, columns: Mapping[str, NDArray[np.generic]]) -> None:
        """Adds rows.

        Args:
            columns: Columns by name, [K, C] each; NaN where a value is not known.
        """
        for name, rows in columns.items():
            values = rows.astype(np.float64)
            known, width = ~np.isnan(values), values.shape[1]
            sums = [np.full(width, np.nan), *(np.zeros(width) for _ in range(3))]
            origin, total, squares, count = self._sums.setdefault(name, sums)
            new = np.isnan(origin) & known.any(axis=0)
            origin[new] = values[known.argmax(axis=0), np.arange(width)][new]
            apart = np.where(known, values - origin, 0.0)
            total += apart.sum(axis=0)
            squares += (apart**2).sum(axis=0)
            count += known.sum(axis=0)

    def moments(self) -> dict[str, tuple[list[float], list[float]]]:
        """Mean and standard deviation of each column, by name; 0 where nothing is known."""
        result = {}
        for name, (origin, total, squares, count) in self._sums.items():
            mean = total / np.maximum(count, 1)
            variance = (squares - count * mean**2) / np.maximum(count - 1, 1)
            result[name] = (np.nan_to_num(origin) + mean).tolist(), np.sqrt(variance.clip(0)).tolist()
        return result
