"""Training epochs in one compiled call, for small models: one hidden layer and discrete actions.

At these sizes the arithmetic of a step takes tens of microseconds, and calling a dozen tensor operations many times
that. Here Numba compiles a whole epoch; members, which are independent, run side by side
on all cores.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.parallel import epoch_segments, run_members
from persim_gym.simulator.kernels.adam import is_sparse
from persim_gym.simulator.kernels.gemm import WIDE_COLUMNS
from persim_gym.simulator.kernels.small_train import train_steps
from persim_gym.simulator.model.encoders import AgentEncoder, DiscreteActionEncoder, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble


class NumbaEngine:
    """Epochs of Adam on all members of a small factored ensemble.

    Attributes:
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
        sparse: bool | None = None,
        interaction: float = 0.0,
    ) -> None:
        """Binds the model and the data.

        Args:
            model: The ensemble; updated in place after each epoch.
            agent: Agents, [K].
            obs: Scaled observations, [K, D].
            action: Actions, [K].
            delta: Scaled changes of the observation, and extra quantities, [K, D + E].
            pull: Weight of the squared distance of an agent's latent factor to the shared one.
            sparse: Whether updates of latent factors are row-wise; None for what is faster.
            interaction: Weight of the squared interaction of agents and actions.
        """
        self._model, self._pull, self._interaction, self._sparse = model, pull, interaction, sparse
        if max(model.config.n_agents, model.config.n_actions) > 2**24:
            raise ValueError("agents and actions are kept as float32, which counts exactly to 16,777,216 only")
        assert isinstance(model.agent_encoder, AgentEncoder)
        self._factor = model.agent_encoder.factor.detach().numpy()  # [M, N, R], the model's own memory
        self._factor_moments = np.zeros((2, *self._factor.shape), dtype=np.float32)
        self._hidden = -(-model.config.state_layers[0] // WIDE_COLUMNS) * WIDE_COLUMNS  # as the kernel has them
        self._theta = self._gather()  # [M, P], all other parameters
        self._moments = np.zeros((2, *self._theta.shape), dtype=np.float32)
        self.count = 0
        self.bind(agent, obs, action, delta)

    def bind(
        self,
        agent: NDArray[np.int64],
        obs: NDArray[np.float32],
        action: NDArray[np.int64],
        delta: NDArray[np.float32],
    ) -> None:
        """Goes on with other data, arguments as the constructor's."""
        # One row a transition, so that a shuffled read costs one cache miss.
        columns = 2 + obs.shape[1]
        self._data = np.empty((len(agent), columns + delta.shape[1]), dtype=np.float32)
        self._data[:, 0], self._data[:, 1] = agent, action
        self._data[:, 2:columns], self._data[:, columns:] = obs, delta

    def epoch(self, order: NDArray[np.int64], learning_rates: NDArray[np.float64], batch: int) -> float:
        """Takes one step a learning rate.

        Args:
            order: Rows of the data in the order of their use, [M, >= steps * batch].
            learning_rates: Adam's, [steps].
            batch: Transitions a step and member.

        Returns:
            Mean loss a member and step.
        """
        s = self._model.config
        self._theta = self._gather()  # the model may have been loaded since
        sizes = (s.obs_dim, s.extra_dim, self._hidden, s.rank, s.n_actions, batch)
        sparse = is_sparse(s.n_agents, batch) if self._sparse is None else self._sparse

        edges = epoch_segments(len(learning_rates), sparse)
        losses = np.zeros((s.members, len(edges)))

        def train(m: int, k: int) -> None:
            steps = slice(*edges[k])
            losses[m, k] = train_steps(
                self._theta[m],
                *self._moments[:, m],
                self._factor[m],
                *self._factor_moments[:, m],
                order[m, steps.start * batch : steps.stop * batch],
                learning_rates[steps],
                self._data,
                (*sizes, self.count + steps.start),
                np.float32(self._pull),
                np.float32(self._interaction),
                s.activation == "silu",
                sparse,
            )

        run_members(train, s.members, len(edges))
        self.count += len(learning_rates)
        self._scatter()
        return float(losses.sum() / s.members) / len(learning_rates)

    def state(self) -> dict[str, torch.Tensor]:
        """What training goes on from beside the model; shares memory."""
        moments = {"moments": self._moments, "factor_moments": self._factor_moments}
        return {name: torch.from_numpy(values) for name, values in moments.items()}

    def _parts(self) -> list[tuple[torch.Tensor, bool]]:
        """Parameters but the agents' in the kernel's order, and whether their last axis there is the hidden units."""
        agents, states, actions = self._model.agent_encoder, self._model.state_encoder, self._model.action_encoder
        assert isinstance(agents, AgentEncoder)
        assert isinstance(states, EnsembleMLP)
        assert isinstance(actions, DiscreteActionEncoder)
        first: Any
        last: Any
        first, last = states.layers
        return [
            (first.weight, True),
            (first.bias, True),
            (last.weight.transpose(1, 2), True),
            (last.bias, False),
            (agents.bias, False),
            (actions.factor, False),
            (actions.bias, False),
        ]

    def _gather(self) -> NDArray[np.float32]:
        spare = self._hidden - self._model.config.state_layers[0]  # units of zeros, which no step changes
        padded = [torch.nn.functional.pad(p.detach(), (0, spare if is_hidden else 0)) for p, is_hidden in self._parts()]
        return torch.cat([p.reshape(len(p), -1) for p in padded], dim=1).numpy()

    def _scatter(self) -> None:
        start = 0
        with torch.no_grad():
            for p, is_hidden in self._parts():
                width = self._hidden if is_hidden else p.shape[2]
                part = torch.from_numpy(self._theta[:, start : start + p.shape[1] * width])
                p.copy_(part.reshape(len(p), p.shape[1], width)[..., : p.shape[2]])
                start += p.shape[1] * width
