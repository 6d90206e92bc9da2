"""What a seller's picture shows."""

import numpy as np

from persim_gym.envs import DOMAINS
from persim_gym.envs.revenue.render import FREE, INK, SOLD

DOMAIN = DOMAINS["revenue"]


def pixels(picture, colour):
    return int((picture == np.array(colour)).all(axis=2).sum())


def test_blue_seats_are_those_sold_and_the_bar_is_the_days_gone():
    renderer = DOMAIN.make_renderer("rgb_array", DOMAIN.agent_covariates(0))
    full, half, empty = (
        renderer.render(np.array([seats, days, 0.0, 1.0])) for seats, days in ((180, 60), (90, 30), (0, 0))
    )
    assert pixels(full, SOLD) == 0 and pixels(empty, FREE) == 0
    assert 0 < pixels(half, SOLD) < pixels(empty, SOLD)
    assert abs(pixels(half, SOLD) / pixels(empty, SOLD) - 0.5) < 0.01
    assert pixels(full, INK) < pixels(half, INK) < pixels(empty, INK)
    renderer.close()
