"""TensorBoard's curves of a training: loss, and error one step ahead."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from persim_gym.extras import required
from persim_gym.simulator.diagnostics.metrics import known_mean, one_step
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.watch import GRADIENT_STEPS, Watch, unwatched
from persim_gym.transitions import Transitions

CURVE_ROWS = 2000  # So many transitions show the error.
FIRST_STEPS, EVERY = 10, 5
"""The error is measured after each of the first steps, then after every fifth."""


def summary_writer() -> Any:
    """TensorBoard's class that writes curves.

    Raises:
        MissingExtraError: If TensorBoard is not installed.
    """
    return required("torch.utils.tensorboard", "tensorboard", "curves need TensorBoard").SummaryWriter


@contextmanager
def watching(folder: Path | None, rows: Transitions, names: Sequence[str], seed: int = 0) -> Iterator[Watch]:
    """Gives what a training tells its steps to; the curves are in the folder when the block ends.

    Args:
        folder: Of TensorBoard's logs; None for no curves. Those of an earlier training there are hidden from the first
            step on, so that one that was interrupted goes on.
        rows: Transitions to measure the error on; `CURVE_ROWS` of them are used.
        names: What predicted columns are called, [D + 2].
        seed: Chooses the rows.
    """
    if folder is None:
        yield unwatched
        return
    curves = Curves(folder, rows, names, seed)
    try:
        yield curves.note
    finally:
        curves.close()


class Curves:
    """Writes them; arguments as `watching`."""

    def __init__(self, folder: Path, rows: Transitions, names: Sequence[str], seed: int = 0) -> None:
        """Opens no file until there is something to write."""
        if len(rows) > CURVE_ROWS:
            keep = np.zeros(len(rows), dtype=np.bool_)
            keep[np.random.default_rng(seed).choice(len(rows), CURVE_ROWS, replace=False)] = True
            rows = rows.select(keep)
        self._rows, self._folder, self._names = rows, folder, list(names)
        self._writer: Any = None

    def note(self, part: str, step: int, model: FactoredEnsemble, loss: float | None) -> None:
        """As `Watch`."""
        if self._writer is None:
            self._writer = summary_writer()(str(self._folder), purge_step=step)
        if loss is not None:
            self._writer.add_scalar(f"{part}/loss", loss, step)
        if part != GRADIENT_STEPS or step <= FIRST_STEPS or step % EVERY == 0:
            for name, error in self._errors(model).items():
                if np.isfinite(error):
                    self._writer.add_scalar(f"{part}/error/{_tag(name)}", error, step)

    def _errors(self, model: FactoredEnsemble) -> dict[str, float]:
        """Root mean square error of each column one step ahead, over that of predicting no change."""
        s = model.config
        names = [*self._names[: s.learned_dim], *self._names[s.obs_dim : s.prediction_dim]]
        rows = self._rows
        if model.config.n_agents < rows.n_agents:  # One for all agents.
            rows = replace(rows, agent=np.zeros_like(rows.agent), n_agents=model.config.n_agents)
        ours, idle = (np.sqrt(known_mean(np.square(e, dtype=np.float64), axis=0)) for e in one_step(model, rows))
        with np.errstate(divide="ignore", invalid="ignore"):  # A column may never change.
            return dict(zip(names, (ours / idle).tolist(), strict=True))

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            self._writer.close()


def _tag(name: str) -> str:
    """A name as TensorBoard takes it."""
    return re.sub(r"[^\w.]+", "_", name).strip("_")
