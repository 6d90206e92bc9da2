"""The driver of a training: members side by side on all cores, whatever engine takes their steps.

An *engine* trains one group of members: a single one on the processor, where members are independent and run on threads
of their own, or all of them at once on a GPU. The driver cuts an epoch into segments, hands them to threads, and keeps
count. The result does not depend on the number of threads.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.parallel import epoch_segments, run_members
from persim_gym.simulator.training.batches import Batchable


class Engine(Protocol):
    """Takes Adam's steps for a group of members.

    Attributes:
        members: The members of the ensemble that it trains, [m].
        sparse: Whether a segment ends with work on every agent, so that an epoch should be a single one.
    """

    members: slice
    sparse: bool

    @staticmethod
    def pack(data: Batchable) -> Any:
        """Brings data into the form that this kind of engine reads; done once for all engines."""

    def bind(self, data: Any) -> None:
        """Goes on with other data, as `pack` made them."""

    def load(self) -> None:
        """Takes the ensemble's weights over, which may have been read from a file since."""

    def store(self) -> None:
        """Writes the weights into the ensemble."""

    def steps(self, order: NDArray[np.int64], rates: NDArray[np.float64], batch: int, done: int) -> float:
        """Takes one step a learning rate.

        Args:
            order: Rows of the data in the order of their use, [m, >= steps * batch].
            rates: Adam's learning rates, [steps].
            batch: Transitions a step and member.
            done: Steps made before.

        Returns:
            Loss, summed over steps and members.
        """

    def stop(self) -> None:
        """Ends `steps`, which another thread is at, as soon as may be."""

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the weights; shares memory."""


class EnsembleTraining:
    """Epochs of Adam on all members of an ensemble.

    Attributes:
        count: Number of steps made.
    """

    def __init__(self, engines: Sequence[Engine], data: Batchable, side_by_side: bool = True) -> None:
        """Binds engines to data.

        Args:
            engines: One for each group of members, all of one kind.
            data: The data.
            side_by_side: Whether each engine works on a thread of its own; else there is one engine, and an epoch is a
                single call of it.
        """
        self.count = 0
        self._engines, self._side_by_side = engines, side_by_side
        self.bind(data)

    def bind(self, data: Batchable) -> None:
        """Goes on with other data."""
        packed = self._engines[0].pack(data)
        for engine in self._engines:
            engine.bind(packed)

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the weights; shares memory."""
        return {f"{k}/{name}": values for k, e in enumerate(self._engines) for name, values in e.state().items()}

    def epoch(self, order: NDArray[np.int64], rates: NDArray[np.float64], batch: int) -> float:
        """Takes one step a learning rate.

        Args:
            order: Rows of the data in the order of their use, [M, >= steps * batch].
            rates: Adam's learning rates, [steps].
            batch: Transitions a step and member.

        Returns:
            Mean loss a member and step.
        """
        engines = self._engines
        for engine in engines:
            engine.load()
        edges = epoch_segments(len(rates), engines[0].sparse or not self._side_by_side)
        losses = np.zeros((len(engines), len(edges)))

        def train(group: int, segment: int) -> None:
            low, high = edges[segment]
            rows = order[engines[group].members, low * batch : high * batch]
            losses[group, segment] = engines[group].steps(rows, rates[low:high], batch, self.count + low)

        def stop() -> None:
            for engine in engines:
                engine.stop()

        if not self._side_by_side:
            train(0, 0)
        else:
            run_members(train, len(engines), len(edges), stop)
        for engine in engines:
            engine.store()
        self.count += len(rates)
        return float(losses.sum() / len(order)) / len(rates)
