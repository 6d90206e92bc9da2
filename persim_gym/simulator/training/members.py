"""Training epochs of large models on the CPU: each member by itself, members side by side on all cores.

A member's activations stay in a core's cache where those of all members together do not, and threads never wait for
each other within an epoch. The result does not depend on the number of threads.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from persim_gym.parallel import epoch_segments, run_members
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.torch_engine import TorchEngine


class MemberEngine:
    """Epochs of Adam on all members, one `TorchEngine` a member, on Numba's number of threads."""

    def __init__(
        self,
        model: FactoredEnsemble,
        agent: Tensor,
        obs: Tensor,
        action: Tensor,
        delta: Tensor,
        pull: float,
        batch: int = 0,
        *,
        noise: float = 0.0,
        weight_decay: float = 0.0,
        seed: int = 0,
        interaction: float = 0.0,
    ) -> None:
        """Splits the model into members; arguments as `TorchEngine`.

        Args:
            model: The ensemble, of the factored kind; updated in place after each epoch.
            agent: See there, as all others.
            obs: See there.
            action: See there.
            delta: See there.
            pull: See there.
            batch: See there.
            noise: See there.
            weight_decay: See there.
            seed: See there.
            interaction: See there.
        """
        assert model.head is None, "members of other variants are not trained apart"
        self._model = model
        self._parts = [FactoredEnsemble(replace(model.config, members=1)) for _ in range(model.config.members)]
        self._engines = [
            TorchEngine(
                part,
                agent,
                obs,
                action,
                delta,
                pull,
                batch,
                noise=noise,
                weight_decay=weight_decay,
                seed=seed * len(self._parts) + m,
                interaction=interaction,
            )
            for m, part in enumerate(self._parts)
        ]

    @property
    def count(self) -> int:
        """Number of updates made."""
        return self._engines[0].count

    @count.setter
    def count(self, value: int) -> None:
        for engine in self._engines:
            engine.count = value

    def bind(self, agent: Tensor, obs: Tensor, action: Tensor, delta: Tensor) -> None:
        """Goes on with other data, arguments as the constructor's."""
        for engine in self._engines:
            engine.bind(agent, obs, action, delta)

    def state(self) -> dict[str, Tensor]:
        """What training goes on from beside the model; shares memory."""
        return {f"{m}/{k}": v for m, engine in enumerate(self._engines) for k, v in engine.state().items()}

    @torch.no_grad()
    def epoch(self, order: NDArray[np.int64], learning_rates: NDArray[np.float64], batch: int) -> float:
        """Takes one step a learning rate; arguments and result as `TorchEngine.epoch`."""
        for m, part in enumerate(self._parts):  # the model may have been loaded since
            for own, whole in zip(part.parameters(), self._model.parameters(), strict=True):
                own.copy_(whole[m : m + 1])

        edges = epoch_segments(len(learning_rates), self._engines[0].sparse)
        losses = np.zeros((len(self._parts), len(edges)))

        def train(m: int, k: int) -> None:
            low, high = edges[k]
            rows = order[m : m + 1, low * batch : high * batch]
            losses[m, k] = (high - low) * self._engines[m].epoch(rows, learning_rates[low:high], batch)

        def stop() -> None:
            for engine in self._engines:
                engine.stop = True

        run_members(train, len(self._engines), len(edges), stop)
        for m, part in enumerate(self._parts):
            for own, whole in zip(part.parameters(), self._model.parameters(), strict=True):
                whole[m : m + 1].copy_(own)
        return float(losses.sum() / len(self._parts)) / len(learning_rates)
