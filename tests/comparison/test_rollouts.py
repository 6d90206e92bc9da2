"""Rows of draws: each is an agent under one member and one factor, whoever acts meets the same noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.policies import Constant

from persim_gym.comparison.acting import Acting
from persim_gym.comparison.rollouts import draw_rows, first_observations, roll_out
from persim_gym.comparison.setting import Sampling, Setting, disturbance_of
from persim_gym.persim_env.stepper import Binding
from persim_gym.simulator.diagnostics.measure_noise import fitted_noise
from persim_gym.simulator.diagnostics.nearest_residuals import NEIGHBOURS, NearestResiduals
from persim_gym.simulator.simulator import Simulator

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


def test_the_steps_of_the_first_episode_of_each_draw_are_kept(car):
    place = Setting.of(car)
    rows = draw_rows(place, [2], FEW, 3)
    found, visited = roll_out(Acting(Constant(1), "it", place.model.spec), rows, 2, FEW)
    first = found.steps[::3]
    assert len(visited.obs) == len(visited.action) == first.sum() and (visited.action == 1).all()
    np.testing.assert_array_equal(visited.obs[:4], first_observations(rows, 2, FEW)[::3])


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


@pytest.mark.parametrize("kind", ["residual", "none"])
def test_noise_is_what_was_asked_for(car, kind):
    place = Setting.of(car)
    rows = draw_rows(place, [1], FEW._replace(noise=kind), 3)
    assert draw_rows(place, [2], FEW._replace(noise=kind), 3).bound.disturbance is rows.bound.disturbance
    obs, action = first_observations(rows, 1, FEW), np.full(12, 2)
    expected, _ = rows.bound.dynamics.step(obs, action, rows.member)
    off = rows.bound.step(obs, action, rows.member, np.random.default_rng(0)).obs - expected
    if kind == "none":
        return np.testing.assert_array_equal(off, 0.0)
    wrong = NearestResiduals(place.model.model, place.data)._nearest(obs, action, NEIGHBOURS)
    unclipped = np.abs(wrong - off).sum(axis=2).min(axis=0) < 1e-6
    assert unclipped.sum() > 6 and np.abs(off).max() > 0


def test_noise_that_was_not_measured_is_refused(car):
    with pytest.raises(ValueError, match="holds no noise of its transitions; `persim calibrate small` measures it"):
        draw_rows(Setting.of(car), [1], FEW._replace(noise="gaussian"), 3)


def test_residuals_are_drawn_from_a_part_of_many_logged_transitions(car, monkeypatch):
    monkeypatch.setattr("persim_gym.comparison.setting.MAX_RESIDUALS", 40)
    seen = []
    monkeypatch.setattr(Simulator, "disturbance", lambda self, noise, logged: seen.append(len(logged)))
    disturbance_of(Setting.of(car), "residual")
    assert seen == [40]


def test_of_a_terminal_objective_the_last_reward_counts(car):
    place, sampling = Setting.of(car), FEW._replace(objective="terminal", discount=0.5)
    found, _ = roll_out(Acting(Constant(0), "it", place.model.spec), draw_rows(place, [1], FEW, 3), 1, sampling)
    np.testing.assert_allclose(found.earned, -(0.5 ** (found.steps - 1.0)))


def test_a_prediction_that_is_not_believed_has_no_last_reward(car, monkeypatch):
    place, sampling = Setting.of(car), FEW._replace(objective="terminal")
    rows, step = draw_rows(place, [1], FEW, 3), Binding.step

    def lost(self, *arguments):
        outcome, count[0] = step(self, *arguments), count[0] + 1
        away = np.full(12, count[0] == 4)
        return outcome._replace(halted=away, reward=np.where(away, 0.0, -count[0]))

    count = [0]
    monkeypatch.setattr(Binding, "step", lost)
    found, _ = roll_out(Acting(Constant(0), "it", place.model.spec), rows, 1, sampling)
    assert found.lost.all() and set(found.earned) == {-3.0} and set(found.steps) == {4}


def test_returns_and_lengths_count_to_the_end_of_an_episode(car):
    place = Setting.of(car)
    rows = draw_rows(place, [1], FEW, 3)
    found, _ = roll_out(Acting(Constant(0), "it", place.model.spec), rows, 1, FEW)
    np.testing.assert_array_equal(found.earned, -found.steps)
    assert found.steps.max() <= 10 and not found.lost.any()
