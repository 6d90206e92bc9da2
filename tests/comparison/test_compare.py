"""A comparison as a whole: same seed, same numbers; candidates share starts and draws; what is not known is said."""

from pathlib import Path

import numpy as np
import pytest
from support.policies import Constant
from support.simulators import own_simulator

import persim_gym
from persim_gym.comparison.calibration import calibrated
from persim_gym.comparison.compare import compare
from persim_gym.comparison.kept import INTERVALS
from persim_gym.comparison.results import Comparison
from persim_gym.comparison.setting import Sampling, Setting

FEW = {"draws": 4, "episodes": 3, "steps": 12}


def shown(found: Comparison):
    return [(r.agent, r.candidate, r.mean, r.low, r.high, r.best, r.beats, r.fitted_q) for r in found.rows]


def test_the_same_seed_gives_the_same_and_another_seed_others(car):
    given = {"random": "random", "left": "constant:0"}
    first = compare(car, given, [1, 3], **FEW)
    assert shown(compare(car, given, [1, 3], **FEW)) == shown(first)
    assert shown(compare(car, given, [1, 3], **FEW, seed=1)) != shown(first)
    assert first.agents == ["1", "3"] and {r.candidate for r in first.of("1")} == {"random", "left", "logged"}


def test_it_is_at_the_front_door_and_stays_a_function(car):
    persim_gym.compare(car, {"left": "constant:0"}, [1], **FEW)
    assert persim_gym.compare is compare


def test_candidates_that_act_alike_earn_the_same_to_the_last_bit(car):
    found = compare(car, {"left": "constant:0", "object": Constant(0)}, [2], baseline="left", **FEW)
    one, other = found.rows
    assert (one.mean, one.low, one.high, one.fitted_q) == (other.mean, other.low, other.high, other.fitted_q)
    assert one.best == other.best == 0.5
    assert {r.candidate: r.beats for r in found.rows} == {"left": None, "object": 0.5}


def test_a_candidate_does_not_depend_on_the_others(car):
    alone = compare(car, {"random": "random"}, [2], baseline="none", **FEW).rows[0]
    among = compare(car, {"left": "constant:0", "random": "random"}, [0, 2], baseline="none", **FEW)
    (same,) = [r for r in among.of("2") if r.candidate == "random"]
    assert (alone.mean, alone.low, alone.high, alone.fitted_q) == (same.mean, same.low, same.high, same.fitted_q)


def test_probabilities_of_being_the_best_add_up(car):
    found = compare(car, {"random": "random", "left": "constant:0"}, [0], **FEW)
    assert sum(r.best for r in found.rows) == pytest.approx(1.0)
    assert all(r.low <= r.mean <= r.high for r in found.rows)
    assert [r.mean for r in found.rows] == sorted((r.mean for r in found.rows), reverse=True)


def test_discounted_returns_are_those_of_the_steps(car):
    found = compare(car, {"left": "constant:0"}, [0], baseline="none", discount=0.5, fitted_q=False, **FEW)
    assert found.rows[0].mean == pytest.approx(-(1 - 0.5**12) / 0.5, abs=1e-3)
    assert found.rows[0].fitted_q is None and found.rows[0].beats is None


def test_a_terminal_objective_is_the_last_reward_by_simulator_and_fitted_q(car):
    found = compare(car, {"left": "constant:0"}, [0], baseline="none", objective="terminal", **FEW)
    assert found.rows[0].mean == pytest.approx(-1.0, abs=1e-3) == found.rows[0].fitted_q
    assert found.rows[0].objective == "terminal"


@pytest.mark.parametrize(
    ("noise", "said"), [("residual", "nearest by"), ("none", "no noise"), ("auto", "`persim calibrate small` measures")]
)
def test_noise_is_named_and_the_same_seed_gives_the_same(car, noise, said):
    given = {"random": "random", "left": "constant:0"}
    found = compare(car, given, [1], noise=noise, **FEW)
    assert said in " ".join(found.notes)
    assert shown(compare(car, given, [1], noise=noise, **FEW)) == shown(found)


def test_noise_that_the_simulator_lacks_is_one_line(car):
    with pytest.raises(ValueError, match="simulator small holds no noise .* `persim calibrate small` measures it"):
        compare(car, {"left": "constant:0"}, [1], noise="gaussian", **FEW)


def test_kept_intervals_make_the_same_table(car):
    first = compare(car, {"left": "constant:0"}, [1], **FEW)
    calibrated.cache_clear()
    assert (Path(car) / INTERVALS).is_file()
    assert shown(compare(car, {"left": "constant:0"}, [1], **FEW)) == shown(first)
    calibrated.cache_clear()
    (Path(car) / INTERVALS).unlink()
    assert shown(compare(car, {"left": "constant:0"}, [1], **FEW)) == shown(first)


def test_without_its_data_it_says_what_is_missing_and_logged_is_one_line(tmp_path):
    folder = str(own_simulator(tmp_path / "poles", "", starts=True))
    found = compare(folder, {"random": "random", "push": "constant:1"}, [1], baseline="none", **FEW)
    notes = " ".join(found.notes)
    for said in ("holds no beliefs", "no noise", "data are not here", "of no domain here"):
        assert said in notes
    assert all(row.fitted_q is None for row in found.rows)
    with pytest.raises(ValueError, match="candidate logged: "):
        compare(folder, {"random": "random"}, [1], **FEW)


def test_an_agent_without_data_is_one_line(car, cars, monkeypatch):
    monkeypatch.setattr("persim_gym.comparison.setting.logged_data", lambda model: cars.select(cars.agent < 2))
    with pytest.raises(ValueError, match="agent 4 has no logged transitions in .*--baseline none") as error:
        compare(car, {"random": "random"}, [0, 4], **FEW)
    assert "\n" not in str(error.value)
    assert compare(car, {"random": "random"}, [4], baseline="none", **FEW).rows[0].fitted_q is not None


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"baseline": "clinic"}, "the baseline 'clinic' is none of the candidates left"),
        ({"draws": 1}, "at least 2 draws"),
        ({"discount": 0.0}, "discount=0.0 is not in"),
        ({"noise": "loud"}, "noise='loud' is none of auto, none, residual, gaussian"),
        ({"objective": "sum"}, "objective='sum' is none of return, terminal"),
        ({"agents": []}, "name at least one"),
        ({"agents": [77]}, "agent 77 is not in this simulator"),
        ({"policies": {}, "baseline": "none"}, "nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_one_line(car, keywords, said):
    with pytest.raises(ValueError, match=said):
        compare(**{"simulator": car, "policies": {"left": "constant:0"}, "agents": [0], **FEW, **keywords})


def test_a_simulator_that_is_not_on_disk_says_so(simulator, tmp_path):
    from dataclasses import replace

    with pytest.raises(ValueError, match="is not on disk; save it first"):
        Setting.of(replace(simulator, folder=tmp_path / "nowhere"))


def test_the_longest_episode_is_the_simulators(car):
    assert Sampling(steps=0).limit(200) == 200 and Sampling(steps=900).limit(200) == 200
    assert np.isfinite(compare(car, {"left": "constant:0"}, [0], **FEW).rows[0].steps)
