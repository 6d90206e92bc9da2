"""The strip of glucose."""

import numpy as np

from persim_gym.envs.patients.domain import DOMAIN
from persim_gym.envs.patients.render import BLUE, StripRenderer


def test_readings_of_the_day_stay_on_the_strip_until_another_begins():
    physics = DOMAIN.physics(**DOMAIN.agent_covariates(0))
    state, renderer = DOMAIN.initial_state(np.random.default_rng(0), 1)[0], StripRenderer("rgb_array", {})

    def points():
        image = renderer.render(state)
        return int((image[50:] == BLUE).all(axis=-1).sum())

    counts = [points()]
    for _ in range(20):
        state = physics(state, np.zeros(1, dtype=np.float32))
        counts.append(points())
    assert counts[20] > counts[10] > counts[0] > 0
    state = DOMAIN.initial_state(np.random.default_rng(1), 1)[0]
    assert points() < counts[5]
    renderer.close()
