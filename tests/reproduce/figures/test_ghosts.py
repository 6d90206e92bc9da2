"""Ghosts are what models predict: the truth predicts itself, and a wrong model is seen to be wrong."""

import csv

import matplotlib.image
import numpy as np
import pytest

from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.reproduce.figures import ghosts as module
from persim_gym.reproduce.figures.ghosts import LEAST_ASPECT, draw_ghosts, ghosts_figure, record_ghosts
from persim_gym.task import PlanningDynamics
from persim_gym.workflows.film import MIN_DIFFERENCE, drawing, empty_scene

HORIZONS = (10, 40)


def standing(obs, action):
    """Dynamics in which nothing moves."""
    return obs


def vanishing(obs, action):
    """Dynamics that lose their numbers."""
    return obs * np.nan


def leaving(obs, action):
    """Dynamics that take everything far away."""
    return obs + 1e9


class Listening(PlanningDynamics):
    """True dynamics that notes what it is told of the agent."""

    def __init__(self, domain, agent):
        self.step, self.told = domain.dynamics(agent), []

    def given(self, history):
        self.told.append(history)
        return self

    def __call__(self, obs, action):
        return self.step(obs, action)


def record(name, agent, models):
    domain = DOMAINS[name]
    policy = load_behavior_policy(name, TEST)
    return domain, record_ghosts(domain, agent, models, policy, steps=max(HORIZONS), episodes=3)


@pytest.fixture(scope="module", params=[("mountaincar", 3), ("cartpole", 1)], ids=str)
def drawn(request):
    """Ghosts of the truth as PerSim's and of wrong models as the others', of one agent, their pictures and the truth's.

    The last are of each horizon, and of nothing.
    """
    name, agent = request.param
    others = {"cadm": standing, "pe-ts-cadm": vanishing, "unfactorized": leaving}
    domain, ghosts = record(name, agent, {"persim": DOMAINS[name].dynamics(agent), **others})
    with drawing(domain, agent) as draw:
        alone = {horizon: draw(ghosts.true[horizon]) for horizon in HORIZONS}
        return ghosts, draw_ghosts(domain, agent, ghosts, HORIZONS), alone, empty_scene(domain, draw)


def apart(one, other):
    """Where pictures differ visibly, [height, width]."""
    return (np.abs(one.astype(int) - other) > MIN_DIFFERENCE).any(axis=-1)


@pytest.mark.parametrize("horizon", HORIZONS)
def test_the_ghost_of_the_truth_is_the_truth(drawn, horizon):
    ghosts, (overlays, _), alone, empty = drawn
    np.testing.assert_allclose(ghosts.predicted["persim"], ghosts.true, atol=1e-4)
    moving = apart(alone[horizon], empty)
    # Rounding may move pixels of an edge.
    assert apart(overlays["persim", horizon].picture, alone[horizon]).sum() < 0.02 * moving.sum()
    wrong = overlays["cadm", horizon].picture
    assert apart(wrong, alone[horizon]).sum() > 0.05 * moving.sum()
    np.testing.assert_array_equal(wrong[moving], alone[horizon][moving])  # The truth is opaque.


def test_what_is_out_of_view_is_said_to_be(drawn):
    _, (overlays, _), alone, _ = drawn
    seen = {method: overlays[method, 40].seen for method in ("persim", "cadm", "pe-ts-cadm", "unfactorized")}
    assert seen == {"persim": True, "cadm": True, "pe-ts-cadm": False, "unfactorized": False}
    assert not apart(overlays["pe-ts-cadm", 40].picture, alone[40]).any()


def test_nothing_that_moves_is_cut_off(drawn):
    _, (overlays, (rows, columns)), _, empty = drawn
    for picture, _ in overlays.values():
        picture = picture.copy()
        assert (picture[rows, columns] != empty[rows, columns]).any()
        picture[rows, columns] = empty[rows, columns]
        np.testing.assert_array_equal(picture, empty)
    assert columns.stop - columns.start >= LEAST_ASPECT * (rows.stop - rows.start) - 1 or columns == slice(0, 600)


def test_errors_are_those_of_the_tables():
    domain, policy = DOMAINS["cartpole"], load_behavior_policy("cartpole", TEST)
    ghosts = record_ghosts(domain, 1, {"persim": standing}, policy, steps=max(HORIZONS), episodes=1)
    error = prediction_error(standing, domain, 1, policy, episodes=1, horizon=max(HORIZONS))
    assert ghosts.rmse("persim", max(HORIZONS)) == pytest.approx(error.mean_rmse)


@pytest.mark.parametrize("steps", [20, 100])  # Several episodes last for 20 steps, and none for 100.
def test_the_first_of_the_longest_episodes_is_chosen_before_anything_is_predicted(steps):
    domain = DOMAINS["cartpole"]
    errors = prediction_error(standing, domain, 0, RandomPolicy(domain.action_space), episodes=20, horizon=steps)
    lengths = np.isfinite(errors.true[:, 1:, 0]).sum(axis=1)
    longest = np.flatnonzero(lengths == lengths.max())
    assert len(lengths) == 20 and (len(longest) > 1) == (lengths.max() == steps) == (steps == 20) and longest[0] < 19
    for model in (standing, vanishing):
        policy = RandomPolicy(domain.action_space)
        ghosts = record_ghosts(domain, 0, {"persim": model}, policy, steps=steps, episodes=20)
        assert (ghosts.episode, ghosts.length) == (longest[0], lengths.max())


def test_models_are_told_the_warm_up():
    model = Listening(DOMAINS["cartpole"], 1)
    _, ghosts = record("cartpole", 1, {"cadm": model})
    (history,) = model.told
    assert history.known.shape == (1, 10) and history.known.all()
    np.testing.assert_allclose(ghosts.predicted["cadm"], ghosts.true, atol=1e-4)


def test_nothing_is_drawn_behind_the_end():
    policy = RandomPolicy(DOMAINS["cartpole"].action_space)
    ghosts = record_ghosts(DOMAINS["cartpole"], 1, {"persim": standing}, policy, steps=90, episodes=3)
    assert ghosts.length < 90
    overlays, _ = draw_ghosts(DOMAINS["cartpole"], 1, ghosts, (1, ghosts.length, ghosts.length + 1))
    assert [horizon for _, horizon in overlays] == [1, ghosts.length]
    with pytest.raises(ValueError, match=f"agent 1 goes on for {ghosts.length} steps at most; give horizons"):
        draw_ghosts(DOMAINS["cartpole"], 1, ghosts, (90,))


def test_the_figure_and_its_numbers(tmp_path):
    models = {1: {"persim": DOMAINS["cartpole"].dynamics(1), "cadm": standing}}
    path = tmp_path / "ghosts.png"
    beside = ghosts_figure(DOMAINS["cartpole"], models, path, horizons=HORIZONS, episodes=3)
    assert matplotlib.image.imread(path).shape[1] >= 900
    rows = list(csv.DictReader(beside.read_text().splitlines()))
    assert [(row["agent"], row["method"], row["horizon"]) for row in rows] == [
        ("1", method, horizon) for method in ("persim", "cadm") for horizon in ("10", "40")
    ]
    for row in rows:
        apart = abs(float(row["true angle (rad)"]) - float(row["predicted angle (rad)"]))
        assert (apart < 1e-4) == (row["method"] == "persim") == (float(row["rmse"]) < 1e-4)


def test_a_domain_without_a_scene_is_refused(monkeypatch):
    domain, ghosts = record("cartpole", 1, {"persim": standing})
    monkeypatch.setattr(module, "empty_scene", lambda domain, draw: None)
    with pytest.raises(ValueError, match="cartpole cannot be drawn over itself: none of its observations is bounded"):
        draw_ghosts(domain, 1, ghosts, HORIZONS)
