"""First observations of simulated episodes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.domain import Domain
from persim_gym.simulator.card import Simulator
from persim_gym.simulator.model import ModelShape


def draw_starts(
    simulator: Simulator,
    domain: Domain | None,
    agents: Sequence[int],
    streams: np.random.Generator | Sequence[np.random.Generator],
) -> NDArray[np.float32]:
    """First observations of rows, [B, D]: from the domain's reset distribution, else from the agents' logged ones.

    Args:
        simulator: Holds the logged first observations; an agent without one starts as any.
        domain: Its domain, or None.
        agents: Agent of each row, [B].
        streams: One stream for all rows, or one a row.

    Raises:
        ValueError: If there is neither a domain nor a logged first observation.
    """
    if domain is not None:
        if isinstance(streams, np.random.Generator):
            states = domain.initial_state(streams, len(agents))
        else:
            states = np.concatenate([domain.initial_state(stream, 1) for stream in streams])
        return np.asarray(domain.observe(states)).astype(np.float32)
    if not len(simulator.start_agents):
        raise ValueError(f"simulator {simulator.card.name} holds no first observations; train it again")
    every = [streams] * len(agents) if isinstance(streams, np.random.Generator) else streams
    rows = [_logged_start(simulator, agent, stream) for agent, stream in zip(agents, every, strict=True)]
    return simulator.start_obs[rows]


def _logged_start(simulator: Simulator, agent: int, stream: np.random.Generator) -> int:
    """Index of one of an agent's first observations, or of any if it has none."""
    low, high = np.searchsorted(simulator.start_agents, [agent, agent + 1])
    return int(stream.integers(low, high) if low < high else stream.integers(len(simulator.start_agents)))


def widened(obs: NDArray[np.float32], shape: ModelShape) -> NDArray[np.float32]:
    """An observation [D] as predictions hold it, [D + E], the quantities beside it zero."""
    return np.concatenate([obs, np.zeros(shape.extra_dim, dtype=np.float32)])
