"""Training epochs in one compiled call, for small models: one hidden layer and discrete actions.

At these sizes the arithmetic of a step takes tens of microseconds, and calling a dozen tensor operations many times
that. Here Numba compiles a whole epoch; members, which are independent, run on all cores.
"""

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray

from persim_gym.simulator.model import AgentEncoder, DiscreteActionEncoder, EnsembleMLP, FactoredEnsemble, ModelShape

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults


def supports(shape: ModelShape) -> bool:
    """Whether a model of these sizes can be trained here."""
    return len(shape.state_layers) == 1 and shape.n_actions > 0


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
        _epoch(
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
                p.copy_(part.reshape(len(p), p.shape[2], p.shape[1]).transpose(1, 2) if turned else part.reshape(p.shape))
                start += size


@njit(parallel=True, fastmath=True, cache=True, error_model="numpy")
def _epoch(theta, first, second, losses, order, rates, data, sizes, pull, silu):  # type: ignore
    for m in prange(theta.shape[0]):
        losses[m] = _member(
            theta[m], first[m], second[m], order[m], rates, data, sizes, pull, silu
        )


@njit(fastmath=True, cache=True, error_model="numpy")
def _member(theta, first, second, order, rates, data, sizes, pull, silu):  # type: ignore
    """One member's epoch; returns its summed loss. Every row is carried forward and back before the next."""
    d_size, hidden, rank, n_agents, n_actions, batch, count = sizes
    outs = d_size * rank
    o1 = d_size * hidden
    o2 = o1 + hidden
    o3 = o2 + outs * hidden
    o4 = o3 + outs
    o5 = o4 + n_agents * rank
    o6 = o5 + rank
    o7 = o6 + n_actions * rank
    grad = np.zeros_like(theta)
    w1, gw1 = theta[:o1].reshape(d_size, hidden), grad[:o1].reshape(d_size, hidden)
    b1, gb1 = theta[o1:o2], grad[o1:o2]
    w2, gw2 = theta[o2:o3].reshape(outs, hidden), grad[o2:o3].reshape(outs, hidden)
    b2, gb2 = theta[o3:o4], grad[o3:o4]
    factor, g_factor = theta[o4:o5].reshape(n_agents, rank), grad[o4:o5].reshape(n_agents, rank)
    shared, g_shared = theta[o5:o6], grad[o5:o6]
    table, g_table = theta[o6:o7].reshape(n_actions, rank), grad[o6:o7].reshape(n_actions, rank)
    common, g_common = theta[o7:], grad[o7:]
    one, half = np.float32(1.0), np.float32(0.5)
    act = np.empty(hidden, dtype=np.float32)
    slope = np.empty(hidden, dtype=np.float32)
    gate = np.empty(hidden, dtype=np.float32)
    back = np.empty(hidden, dtype=np.float32)
    v = np.empty(outs, dtype=np.float32)
    gv = np.empty(outs, dtype=np.float32)
    u = np.empty(rank, dtype=np.float32)
    w = np.empty(rank, dtype=np.float32)
    guw = np.empty(rank, dtype=np.float32)
    scale = np.float32(2.0 / batch)
    pull_scale = np.float32(2.0 * pull / batch)
    rows = np.empty((batch, data.shape[1]), dtype=np.float32)
    total = 0.0
    for step in range(len(rates)):
        grad[:] = 0.0
        error = 0.0
        for b in range(batch):  # all reads first: their cache misses then overlap
            rows[b] = data[order[step * batch + b]]
        for b in range(batch):
            row = rows[b]
            n, a = int(row[0]), int(row[1])
            for h in range(hidden):
                act[h] = b1[h]
            for d in range(d_size):
                x = row[2 + d]
                for h in range(hidden):
                    act[h] += x * w1[d, h]
            if silu:
                for h in range(hidden):
                    gate[h] = half + half * _tanh(half * act[h])  # the logistic function
                for h in range(hidden):
                    slope[h] = gate[h] * (one + act[h] * (one - gate[h]))
                for h in range(hidden):
                    act[h] *= gate[h]
            else:
                for h in range(hidden):
                    slope[h] = one if act[h] > 0 else np.float32(0.0)
                for h in range(hidden):
                    act[h] *= slope[h]
            for o in range(outs):
                total_o = b2[o]
                for h in range(hidden):
                    total_o += act[h] * w2[o, h]
                v[o] = total_o
            for r in range(rank):
                u[r] = factor[n, r] + shared[r]
                w[r] = table[a, r] + common[r]
                guw[r] = 0.0
            for d in range(d_size):
                predicted = np.float32(0.0)
                for r in range(rank):
                    predicted += v[d * rank + r] * u[r] * w[r]
                residual = predicted - row[2 + d_size + d]
                error += residual * residual
                residual *= scale
                for r in range(rank):
                    gv[d * rank + r] = residual * u[r] * w[r]
                    guw[r] += residual * v[d * rank + r]
            for r in range(rank):
                g_factor[n, r] += guw[r] * w[r] + pull_scale * factor[n, r]
                g_shared[r] += guw[r] * w[r]
                g_table[a, r] += guw[r] * u[r]
                g_common[r] += guw[r] * u[r]
            for h in range(hidden):
                back[h] = 0.0
            for o in range(outs):
                g = gv[o]
                gb2[o] += g
                for h in range(hidden):
                    back[h] += g * w2[o, h]
                for h in range(hidden):  # one array written a loop: the compiler then vectorises
                    gw2[o, h] += g * act[h]
            for h in range(hidden):
                back[h] *= slope[h]
            for h in range(hidden):
                gb1[h] += back[h]
            for d in range(d_size):
                x = row[2 + d]
                for h in range(hidden):
                    gw1[d, h] += x * back[h]
        total += error / batch
        _adam(theta, grad, first, second, rates[step], count + step + 1)
    return total


@njit(fastmath=True, cache=True, error_model="numpy")
def _adam(theta, grad, first, second, rate, count):  # type: ignore
    debias = np.sqrt(1.0 - BETA2**count)
    size = np.float32(rate * debias / (1.0 - BETA1**count))
    epsilon = np.float32(EPSILON * debias)
    keep1, add1 = np.float32(BETA1), np.float32(1.0 - BETA1)
    keep2, add2 = np.float32(BETA2), np.float32(1.0 - BETA2)
    for i in range(len(theta)):
        first[i] = keep1 * first[i] + add1 * grad[i]
    for i in range(len(theta)):
        second[i] = keep2 * second[i] + add2 * grad[i] * grad[i]
    for i in range(len(theta)):
        theta[i] -= size * first[i] / (np.sqrt(second[i]) + epsilon)


@njit(fastmath=True, cache=True, error_model="numpy")
def _tanh(x):  # type: ignore
    """tanh to about 1e-6, in arithmetic that vectorises where a library call does not.

    Lambert's continued fraction, eight levels, for the half angle, and the double-angle formula; saturated from 8 on.
    """
    y = np.float32(0.5) * min(max(x, np.float32(-8.0)), np.float32(8.0))
    q = y * y
    top = y * (np.float32(2027025.0) + q * (np.float32(270270.0) + q * (np.float32(6930.0) + q * np.float32(36.0))))
    below = np.float32(2027025.0) + q * (
        np.float32(945945.0) + q * (np.float32(51975.0) + q * (np.float32(630.0) + q))
    )
    return np.float32(2.0) * top * below / (below * below + top * top)
