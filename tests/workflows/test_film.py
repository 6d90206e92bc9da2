"""Films show what happened: truth and prediction of the same actions, and when they part."""

from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest

from persim_gym import policies
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.persim_env.env import PersimEnv
from persim_gym.workflows.film import BANNER, OPACITY, Pair, check_film, film, overlaid, pictures, roll_out


@pytest.fixture(scope="module")
def pole():
    """An episode of CartPole's agent 2, and its environment."""
    env = PersimEnv(agent=2, simulator="cartpole/random-v0")
    return env, roll_out(env, load_behavior_policy("cartpole", TEST), 60, seed=0)


def test_truth_is_the_true_environments_and_prediction_the_simulators(pole):
    env, pair = pole
    policy, physics = load_behavior_policy("cartpole", TEST), DOMAINS["cartpole"].dynamics(agent=2)
    twin = PersimEnv(agent=2, simulator="cartpole/random-v0")
    twin.reset(options={"obs": pair.true[0]})
    state = pair.true[0].astype(np.float64)
    for t in range(1, len(pair.true)):
        action = policy.predict(pair.true[t - 1][None], deterministic=True)[0][0]
        state = physics(state, action)
        np.testing.assert_allclose(pair.true[t], state, atol=1e-4)
        np.testing.assert_array_equal(pair.predicted[t], twin.step(action)[0])
    apart = (pair.true - pair.predicted) / env.simulator.model.logged_std.numpy()
    np.testing.assert_allclose(pair.distance, np.sqrt((apart**2).mean(axis=1)), rtol=1e-4)


def test_they_part_at_the_first_step_beyond_the_tolerance():
    pair = Pair(np.zeros((4, 1)), np.zeros((4, 1)), np.array([0.0, 0.2, 0.05, 0.3]))
    assert [pair.parting(t) for t in (0.1, 0.25, 0.3)] == [1, 3, None]


def test_the_truth_is_opaque_and_the_prediction_translucent():
    empty = np.full((1, 4, 3), 255, dtype=np.uint8)
    true, predicted = empty.copy(), empty.copy()
    true[0, [0, 1]] = 0  # truth at 0 and 1, prediction at 1 and 2, nothing at 3
    predicted[0, [1, 2]] = 100
    mixed = overlaid(true, predicted, empty)[0, :, 0]
    assert mixed.tolist() == [0, 0, int(OPACITY * 100 + (1 - OPACITY) * 255), 255]


def test_pictures_are_the_domains_own_under_a_banner(pole):
    env, pair = pole
    short = Pair(pair.true[:2], pair.predicted[:2], pair.distance[:2])
    frames = pictures(env.domain, 2, short, None, overlay=False)
    renderer = env.domain.make_renderer("rgb_array", env.domain.agent_covariates(2))
    drawn = [renderer.render(obs.astype(np.float64)) for obs in (short.true[1], short.predicted[1])]
    np.testing.assert_array_equal(frames[1][BANNER:], np.concatenate(drawn, axis=1))
    over = pictures(env.domain, 2, short, 1, overlay=True)
    assert over[0].shape == (400 + BANNER, 600, 3)
    red = (over[1][:BANNER, :, 0] > over[1][:BANNER, :, 1].astype(int) + 50).any()
    assert red and not (over[0][:BANNER, :, 0] > over[0][:BANNER, :, 1].astype(int) + 50).any()


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # pipes to ffmpeg, which imageio leaves open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_has_a_frame_a_step(tmp_path, suffix):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    parted = film(17, "mountaincar/random-v0", tmp_path / f"a{suffix}", steps=5, tolerance=1e-9)
    frames = imageio.imread(tmp_path / f"a{suffix}")
    assert frames.shape[:3] == (6, 400 + BANNER, 1200) and parted == 1
    check_film(tmp_path / f"a{suffix}")  # It is known for ours, and may be written again.


def test_a_file_that_is_no_film_of_ours_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(b"my holidays")
    with pytest.raises(ValueError, match="a.gif is there and was not written by persim; --force replaces it"):
        film(17, "mountaincar/random-v0", path, steps=2)
    assert path.read_bytes() == b"my holidays"
    film(17, "mountaincar/random-v0", path, steps=2, force=True)
    film(17, "mountaincar/random-v0", path, steps=3)  # It is ours now.
    assert len(imageio.imread(path)) == 4


def test_the_policy_of_another_domain_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no policy .*nosuch.json; give the agent-<n>.json that `persim train-policy`"):
        film(17, "mountaincar/random-v0", tmp_path / "a.gif", policy=tmp_path / "nosuch.json")
    monkeypatch.setattr(policies, "read_policy", lambda path: SimpleNamespace(domain="cartpole"))
    with pytest.raises(ValueError, match="is a policy of cartpole, and the simulator of mountaincar"):
        film(17, "mountaincar/random-v0", tmp_path / "a.gif", policy=tmp_path / "a.json")


def test_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is neither .gif nor .mp4"):
        film(17, "mountaincar/random-v0", tmp_path / "a.avi")


@pytest.mark.slow
@pytest.mark.parametrize("overlay", [True, False])
def test_a_robot_is_filmed(tmp_path, save_robot, overlay):
    film(0, str(save_robot("halfcheetah")), tmp_path / "a.gif", steps=2, overlay=overlay)
    assert imageio.imread(tmp_path / "a.gif").shape[:3] == (3, 480 + BANNER, 480 if overlay else 960)
