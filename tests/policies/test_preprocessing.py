"""What a policy sees of an observation."""

import gymnasium as gym
import numpy as np
import torch

from persim_gym.policies.preprocessing import ScaledObservation


def test_unbounded_observations_are_seen_as_they_are():
    largest = np.finfo(np.float32).max
    space = gym.spaces.Box(np.float32([-largest, 2, -np.inf]), np.float32([largest, 4, 5]))
    seen = ScaledObservation(space)(torch.tensor([[7.0, 3.5, 9.0]]))
    np.testing.assert_allclose(seen, [[7.0, 0.5, 9.0]])
