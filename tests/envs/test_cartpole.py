"""CartPole's physics."""

import numpy as np

from persim_gym.envs.cartpole import physics


def test_cartpole_s_changes_have_rank_five():
    """Of an agent's force F and length l they hold 1, F, l, 1 / l and F / l, and nothing else."""
    rng = np.random.default_rng(0)
    states = rng.normal(size=(200, 4)) * [1, 1, 0.1, 1]
    agents = [physics(rng.uniform(2, 18), rng.uniform(0.15, 0.85)) for _ in range(60)]
    changes = [[step(states, np.full(200, push)) - states for push in (0, 1)] for step in agents]
    values = np.linalg.svd(np.reshape(changes, (60, -1)), compute_uv=False)
    assert values[4] > 1e-6 * values[0] > 1e6 * values[5]
