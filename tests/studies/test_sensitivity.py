"""True dynamics that are set off: exact without an offset, worse with a larger one."""

import numpy as np
from support.accuracy import row

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.studies.accuracy_report import accuracy_page
from persim_gym.studies.sensitivity import OFFSETS, SetOff, offset_errors


def test_the_true_dynamics_set_off_by_nothing_are_exact():
    spec = DOMAINS["cartpole"]

    def error(**noise):
        policy = RandomPolicy(spec.action_space)
        return prediction_error(SetOff(spec.dynamics(1), 2, **noise), spec, 1, policy, episodes=5, horizon=10).mean_rmse

    assert error() < 1e-6
    assert 0.001 < error(start=np.full(4, 0.01)) < 0.1
    assert error(step=np.full(4, 1e-4)) < error(step=np.full(4, 0.01)) < 0.2


def test_noise_at_the_start_comes_once_and_noise_at_every_step_at_every_step():
    def still(obs, action):
        return obs

    obs, action = np.zeros((3, 2)), np.zeros(3)
    once, always = SetOff(still, 4, start=np.ones(2)), SetOff(still, 4, step=np.array([1.0, 0.0]))
    first = once(obs, action)
    assert np.abs(first).min() > 0
    np.testing.assert_array_equal(once(first, action), first)
    first = always(obs, action)
    assert np.abs(always(first, action) - first)[..., 0].min() > 0
    assert not first[..., 1].any()
    assert len(np.unique(first[..., 0])) == 12  # members and rows each have noise of their own


def test_sensitivity_grows_with_the_offset_and_is_on_the_page():
    rows = [
        {"domain": "mountaincar", "when": when, "offset": str(o), **offset_errors("mountaincar", when, o, episodes=4)}
        for when, offsets in OFFSETS.items()
        for o in (offsets[0], offsets[-1])
    ]
    for agent in range(5):
        for when, factor in (("start", 10), ("step", 20)):
            least, most = (row[f"rmse_{agent}"] for row in rows if row["when"] == when)
            assert factor / 5 < most / least < 5 * factor
    page = accuracy_page([row()], set_off=rows)
    assert "What nearly perfect simulators would score" in page
    assert "| 0.1 % of its spread at the start |" in page and "| 20 % of its change at every step |" in page
    assert "nearly perfect" not in accuracy_page([row()])
