"""Rows of draws: each is an agent under one member and one factor, whoever acts meets the same noise."""

from dataclasses import replace

import numpy as np
import torch
from support.policies import Constant

from persim_gym.comparison.acting import Acting
from persim_gym.comparison.rollouts import draw_rows, first_observations, roll_out
from persim_gym.comparison.setting import Sampling, Setting
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise

FEW = Sampling(draws=4, episodes=3, steps=10)


def test_a_row_is_predicted_by_its_member_under_its_factor(car):
    place = Setting.of(car)
    rows = draw_rows(place, [2], FEW, 3)
    assert rows.member.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]
    model, rng = place.model, np.random.default_rng([0, 2, 0])
    factors = model.beliefs.draws(2, rng, 4).float()
    obs = first_observations(rows, 2, FEW)
    action = np.full(12, 1)
    following, _ = rows.bound.dynamics.step(obs, action, rows.member)
    expected = model.model.predict_with(
        factors.repeat_interleave(3, dim=1), torch.from_numpy(obs), torch.from_numpy(action)
    )
    own = expected[torch.from_numpy(rows.member), torch.arange(12)].detach().numpy()
    np.testing.assert_allclose(following, own, atol=1e-5)


def test_rows_of_several_agents_are_those_of_each(car):
    place = Setting.of(car)
    both, alone = draw_rows(place, [0, 3], FEW, 1), draw_rows(place, [3], FEW, 1)
    obs = np.tile(np.float32([[-0.5, 0.01]]), (8, 1))
    together, _ = both.bound.dynamics.step(obs, np.full(8, 2), both.member)
    single, _ = alone.bound.dynamics.step(obs[:4], np.full(4, 2), alone.member)
    np.testing.assert_array_equal(together[4:], single)


def test_noise_is_the_same_for_all_candidates(simulator, cars, car, tmp_path):
    noisy = replace(simulator, noise=fitted_noise(simulator.model, cars.select(cars.agent < 5)))
    place = Setting.of(str(noisy.save(tmp_path / "noisy")))
    rows = draw_rows(place, [1], FEW, 3)
    seen = []

    class Watching(Constant):
        def predict(self, observation, *others, **keywords):
            seen.append(observation)
            return super().predict(observation)

    for _ in range(2):
        roll_out(Acting(Watching(1), "it", place.model.spec), rows, 1, FEW)
    first, again = np.array(seen[:10]), np.array(seen[10:])
    np.testing.assert_array_equal(first, again)
    roll_out(Acting(Watching(1), "it", place.model.spec), draw_rows(Setting.of(car), [1], FEW, 3), 1, FEW)
    assert np.abs(np.array(seen[20:])[1] - first[1]).max() > 0


def test_returns_and_lengths_count_to_the_end_of_an_episode(car):
    place = Setting.of(car)
    rows = draw_rows(place, [1], FEW, 3)
    found = roll_out(Acting(Constant(0), "it", place.model.spec), rows, 1, FEW)
    np.testing.assert_array_equal(found.earned, -found.steps)
    assert found.steps.max() <= 10 and not found.lost.any()
