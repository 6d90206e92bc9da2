"""Training epochs in one compiled call, for small models: one hidden layer and discrete actions.

At these sizes the arithmetic of a step takes tens of microseconds, and calling a dozen tensor operations many times
that. Here Numba compiles a whole epoch; members, which are independent, run on all cores.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.simulator.encoders import AgentEncoder, DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.kernels import train_epoch
from persim_gym.simulator.model import FactoredEnsemble


class CompiledTraining:
    """Epochs of Adam on all members of a small factored ensemble.

    Attributes:
        moments: Adam's first and second moments, float32 [2, M, P].
        count: Number of updates made.
    """

    def __init__(
        self,
        model: FactoredEnsemble,
        agent: NDArray[np.int64],
        obs: NDArray[np.float32],
        action: NDArray[np.int64],
        delta: NDArray[np.float32],
        pull: float,
    ) -> None:
        """Binds the data.

        Args:
            model: The ensemble; updated in place after each epoch.
            agent: Agents, [K].
            obs: Scaled observations, [K, D].
            action: Actions, [K].
            delta: Scaled changes of the observation, [K, D].
            pull: Weight of the squared distance of an agent's latent factor to the shared one.
        """
        self._model, self._pull = model, pull
        if max(model.shape.n_agents, model.shape.n_actions) > 2**24:
            raise ValueError("agents and actions are kept as float32, which counts exactly to 16,777,216 only")
        # One row a transition, so that a shuffled read costs one cache miss.
        self._data = np.column_stack([agent, action, obs, delta]).astype(np.float32)
        self._theta = self._gather()
        self.moments = np.zeros((2, *self._theta.shape), dtype=np.float32)
        self.count = 0

    def epoch(self, order: NDArray[np.int64], learning_rates: NDArray[np.float64], batch: int) -> float:
        """Takes one step a learning rate.

        Args:
            order: Rows of the data in the order of their use, [M, >= steps * batch].
            learning_rates: Adam's, [steps].
            batch: Transitions a step and member.

        Returns:
            Mean loss a member and step.
        """
        s = self._model.shape
        self._theta = self._gather()  # the model may have been loaded since
        losses = np.zeros(s.members)
        train_epoch(
            self._theta,
            self.moments[0],
            self.moments[1],
            losses,
            order,
            learning_rates,
            self._data,
            np.array([s.obs_dim, s.state_layers[0], s.rank, s.n_agents, s.n_actions, batch, self.count]),
            np.float32(self._pull),
            s.activation == "silu",
        )
        self.count += len(learning_rates)
        self._scatter()
        return float(losses.mean() / len(learning_rates))

    def _parts(self) -> list[tuple[torch.Tensor, bool]]:
        """The model's parameters in the kernel's order, and whether the kernel keeps them transposed."""
        agents, states, actions = self._model.agent_encoder, self._model.state_encoder, self._model.action_encoder
        assert isinstance(agents, AgentEncoder)
        assert isinstance(states, EnsembleMLP)
        assert isinstance(actions, DiscreteActionEncoder)
        first, last = states.layers
        layers: Any = (first.weight, first.bias, last.weight, last.bias)
        return [
            (layers[0], False),
            (layers[1], False),
            (layers[2], True),
            (layers[3], False),
            (agents.factor, False),
            (agents.bias, False),
            (actions.factor, False),
            (actions.bias, False),
        ]

    def _gather(self) -> NDArray[np.float32]:
        flat = [
            (p.detach().transpose(1, 2) if turned else p.detach()).reshape(len(p), -1) for p, turned in self._parts()
        ]
        return torch.cat(flat, dim=1).numpy()

    def _scatter(self) -> None:
        start = 0
        with torch.no_grad():
            for p, turned in self._parts():
                size = p[0].numel()
                part = torch.from_numpy(self._theta[:, start : start + size])
                p.copy_(
                    part.reshape(len(p), p.shape[2], p.shape[1]).transpose(1, 2) if turned else part.reshape(p.shape)
                )
                start += size
