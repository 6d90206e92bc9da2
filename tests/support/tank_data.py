"""Transitions of tanks, as many agents and steps as a test wants."""

import numpy as np

from persim_gym.transitions import Transitions


def tank_data(agents: int = 12, episodes: int = 2, steps: int = 60, noise: float = 0.0, seed: int = 0) -> Transitions:
    """Tanks that fill or drain, linear in level, flow and pump; the pumps of agents differ."""
    rng = np.random.default_rng(seed)
    count = agents * episodes
    agent = np.repeat(np.arange(agents), episodes)
    now = np.column_stack([rng.uniform(0, 1.5, count), np.zeros(count)])
    action = rng.integers(2, size=(steps, count))
    obs = [now]
    for a in action:
        flow = 0.8 * now[:, 1] + (0.02 + 0.01 * agent) * (2 * a - 1) + noise * rng.normal(size=count)
        now = np.column_stack([0.98 * now[:, 0] + flow, flow])
        obs.append(now)
    logged = np.stack(obs, axis=1).astype(np.float32)  # [E, T + 1, D]
    return Transitions(
        agent=np.repeat(agent, steps),
        obs=logged[:, :-1].reshape(-1, 2),
        action=action.T.reshape(-1),
        reward=-np.abs(logged[:, 1:, 0] - 1).reshape(-1),
        next_obs=logged[:, 1:].reshape(-1, 2),
        terminated=np.zeros(count * steps, dtype=bool),
        trajectory=np.repeat(np.arange(count), steps),
        n_agents=agents,
        source="my/tanks-v0",
    )
