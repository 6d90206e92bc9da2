"""PersimEnv: one agent's learned simulator keeps Gymnasium's contract and says what the model says."""

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support.populations import stranger_of
from support.simulators import save_model

from persim_gym.envs import DOMAINS
from persim_gym.persim_env.env import PersimEnv

BUNDLED = ["mountaincar/random-v0", "cartpole/random-v0"]
both_bundled = pytest.mark.parametrize("simulator", BUNDLED)


@pytest.fixture
def tiny(save_car, tmp_path):
    """`tiny(**keywords)`: an environment in the small MountainCar simulator of six agents and three members."""
    folder = str(save_car(tmp_path / "tiny"))
    return lambda **keywords: PersimEnv(simulator=folder, **keywords)


def predictions(env, obs, action):
    """What the environment's model predicts, by member, [M, D]."""
    inputs = torch.tensor([env.agent]), torch.from_numpy(obs[None]), torch.tensor([action])
    with torch.no_grad():
        return env.simulator.model.predict(*inputs)[:, 0].numpy()


def episode(env, actions, seed=0):
    """Observations, rewards and disagreements until the end, and how it ended."""
    obs, info = env.reset(seed=seed)
    log = [(obs, 0.0, info["disagreement"])]
    for action in actions:
        obs, reward, terminated, truncated, info = env.step(action)
        log.append((obs, reward, info["disagreement"]))
        if terminated or truncated:
            break
    observations, rewards, disagreements = (np.array(column) for column in zip(*log, strict=True))
    return observations, rewards, disagreements, (terminated, truncated)


# --- the contract ---------------------------------------------------------------------------------------------------


@both_bundled
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"member": "random"},
        *({"member": m} for m in range(5)),
        {"penalty": 0.5},
        {"halt": 1e-3},
        {"starts": "logged"},
    ],
    ids=["mean", "random", *"01234", "penalty", "halt", "logged"],
)
# Gymnasium's checker says of an unbounded space what it says of Gymnasium's own.
@pytest.mark.filterwarnings("ignore:.*Box observation space m.* is -?infinity")
def test_both_checkers_accept_it_without_a_warning(simulator, keywords):
    env = gym.make("PersimEnv-v0", agent=17, simulator=simulator, **keywords).unwrapped
    gymnasium_check_env(env)
    sb3_check_env(env)


@both_bundled
def test_spaces_are_those_of_the_true_environment(simulator):
    env = gym.make("PersimEnv-v0", simulator=simulator)
    true = gym.make(DOMAINS[env.unwrapped.simulator.card.domain].env_id)
    assert env.observation_space == true.observation_space
    assert env.action_space == true.action_space
    np.testing.assert_array_equal(env.reset(seed=5)[0], true.reset(seed=5)[0])


def test_the_specification_is_plain_json_and_makes_the_same_environment():
    keywords = {"agent": 3, "simulator": BUNDLED[1], "member": 2, "penalty": 0.1, "halt": 5.0}
    spec = gym.make("PersimEnv-v0", **keywords).spec
    stored = gym.envs.registration.EnvSpec.from_json(spec.to_json())
    assert json.loads(spec.to_json())["kwargs"] == keywords
    first, second = (episode(gym.make(s), [0, 1] * 5) for s in (spec, stored))
    np.testing.assert_array_equal(first[0], second[0])


def test_infos_are_plain_values(tiny):
    env = tiny(agent=1, penalty=0.5, halt=5.0)
    for info in (env.reset(seed=0)[1], env.step(2)[4]):
        assert all(isinstance(value, float) and value.dtype == np.float64 for value in info.values())
        assert json.loads(json.dumps(info)) == info


def test_a_path_is_plain_in_its_specification(save_car, tmp_path):
    folder = save_car(tmp_path / "tiny")
    assert json.loads(gym.make("PersimEnv-v0", simulator=folder).spec.to_json())["kwargs"] == {"simulator": str(folder)}


# --- steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", ["mean", 0, 2])
def test_a_step_is_the_models_prediction(tiny, member):
    env = tiny(agent=4, member=member)
    obs, _ = env.reset(seed=1)
    for action in (0, 2, 1, 2):
        each = predictions(env, obs, action)
        obs, *_ = env.step(action)
        np.testing.assert_allclose(obs, each.mean(axis=0) if member == "mean" else each[member], atol=1e-6)


def test_a_random_member_is_drawn_for_each_episode_and_kept_in_it(tiny):
    env, seen = tiny(agent=1, member="random"), set()
    env.reset(seed=0)
    for _ in range(20):
        obs, _ = env.reset()
        members = set()
        for action in (0, 2, 1):
            each = predictions(env, obs, action)
            obs, *_ = env.step(action)
            members.add(int(np.abs(each - obs).sum(axis=1).argmin()))
            np.testing.assert_allclose(np.abs(each - obs).sum(axis=1).min(), 0, atol=1e-6)
        assert len(members) == 1
        seen |= members
    assert seen == {0, 1, 2}


@both_bundled
def test_reward_and_termination_are_the_domains_own(simulator):
    env = PersimEnv(agent=2, simulator=simulator)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=300)
    observations, rewards, _, (terminated, truncated) = episode(env, actions)
    task = env.domain.task
    expected = task.reward(observations[:-1], actions[: len(observations) - 1], observations[1:])
    np.testing.assert_array_equal(rewards[1:], expected)
    np.testing.assert_array_equal(task.terminated(observations)[:-1], False)
    assert terminated == bool(task.terminated(observations)[-1])


def test_disagreement_is_the_members_spread(tiny):
    env = tiny(agent=4)
    obs, info = env.reset(seed=1)
    assert info["disagreement"] == 0.0
    each = predictions(env, obs, 2) / env.simulator.model.logged_std.numpy()
    assert env.step(2)[4]["disagreement"] == pytest.approx(np.sqrt(each.var(axis=0).mean()), rel=1e-4)


def test_penalty_takes_disagreement_off_the_reward(tiny):
    actions = np.random.default_rng(0).integers(3, size=30)
    observations, plain, disagreements, _ = episode(tiny(agent=1), actions)
    same, penalised, _, _ = episode(tiny(agent=1, penalty=2.0), actions)
    np.testing.assert_array_equal(same, observations)
    assert disagreements[1:].min() > 0
    np.testing.assert_allclose(penalised, plain - 2.0 * disagreements)


def test_halt_truncates_past_its_disagreement(tiny):
    actions = np.random.default_rng(0).integers(3, size=50)
    observations, _, disagreements, _ = episode(tiny(agent=1), actions)
    halt = float(np.sort(disagreements)[-5])
    first = int((disagreements > halt).argmax())
    env = tiny(agent=1, halt=halt)
    halted, _, _, ended = episode(env, actions)
    assert (len(halted) - 1, ended) == (first, (False, True))
    env.reset(seed=0)
    infos = [env.step(action)[4] for action in actions[:first]]
    assert [i for i, info in enumerate(infos) if info["halt"]] == [first - 1]
    assert infos[-1]["disagreement"] > halt


@both_bundled
def test_an_episode_is_truncated_at_the_domains_time_limit(simulator):
    env = gym.make("PersimEnv-v0", agent=1, simulator=simulator)
    obs, _ = env.reset(seed=0)
    steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        action = 1 if simulator.startswith("mountain") else int(obs[2] + 0.3 * obs[3] > 0)
        obs, _, terminated, truncated, info = env.step(action)
        steps += 1
    assert (steps, terminated, truncated) == (env.unwrapped.domain.episode_steps, False, True)
    assert not info["halt"]
    env.reset()
    assert env.step(1)[3] is False  # counted anew


def test_a_terminated_step_is_not_truncated(tiny):
    env = tiny(agent=0, halt=1e-9)
    env.reset(options={"obs": [0.499, 0.06]})
    _, reward, terminated, truncated, _ = env.step(2)
    assert (reward, terminated, truncated) == (0.0, True, False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e8])
def test_a_prediction_that_is_not_believed_ends_the_episode_and_stays_inside(bad):
    env = PersimEnv(agent=0, simulator=BUNDLED[1], penalty=1.0)  # CartPole's physics clip nothing
    env.reset(seed=0)
    before, *_ = env.step(1)
    _, _, _, last_bias, *_ = env._bound.dynamics._weights
    last_bias[0, 1, :, 1] = bad  # one member, one dimension
    obs, reward, terminated, truncated, info = env.step(1)
    np.testing.assert_array_equal(obs, before)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["halt"] and info["disagreement"] == np.inf


@pytest.mark.parametrize("member", ["mean", "random", 1])
def test_the_same_seed_gives_the_same_episode(tiny, member):
    actions = np.random.default_rng(0).integers(3, size=30)
    one, other = tiny(agent=1, member=member), tiny(agent=1, member=member)
    other.reset(seed=99)
    other.step(0)
    first, again = episode(one, actions, seed=4), episode(other, actions, seed=4)
    np.testing.assert_array_equal(first[0], again[0])
    assert (episode(one, actions, seed=5)[0][0] != first[0][0]).any()


def test_agents_differ(tiny):
    first = [episode(tiny(agent=agent), [2] * 10)[0] for agent in (0, 4)]
    np.testing.assert_array_equal(first[0][0], first[1][0])
    assert np.abs(first[0][-1] - first[1][-1]).max() > 1e-4


def test_returned_observations_are_the_callers_own(tiny):
    env, untouched = tiny(agent=1), tiny(agent=1)
    obs, _ = env.reset(seed=0)
    obs[:] = 0
    untouched.reset(seed=0)
    for _ in range(2):
        obs, *_ = env.step(1)
        np.testing.assert_array_equal(obs, untouched.step(1)[0])
        obs[:] = 0


def test_options_set_the_first_observation(tiny):
    env = tiny(agent=1)
    np.testing.assert_array_equal(env.reset(options={"obs": [-0.9, 0.01]})[0], np.float32([-0.9, 0.01]))


# --- copies and pictures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_a_copy_goes_on_by_itself(tiny, duplicate):
    env = tiny(agent=1, member="random", render_mode="rgb_array")
    env.reset(seed=0)
    env.step(2)
    env.render()
    other = duplicate(env)
    for action in (0, 1, 2):
        np.testing.assert_array_equal(env.step(action)[0], other.step(action)[0])
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    assert other.render().shape == env.render().shape


@both_bundled
def test_rgb_array_draws_as_the_true_environment_does(simulator):
    env = PersimEnv(agent=3, simulator=simulator, render_mode="rgb_array")
    obs, _ = env.reset(seed=0)
    image = env.render()
    true = gym.make(env.domain.env_id, agent=3, render_mode="rgb_array")
    true.reset(options={"state": obs.astype(np.float64)})
    assert (image.shape, image.dtype) == ((400, 600, 3), np.uint8)
    np.testing.assert_array_equal(image, true.render())
    env.close()
    true.close()


def test_human_mode_draws_without_being_asked(tiny):
    env = tiny(render_mode="human")
    env.reset(seed=0)
    env.step(1)
    assert env._renderer is not None
    env.close()
    assert env._renderer is None


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", [500, 612, -1])
def test_an_unknown_agent_is_an_error_that_says_which_there_are(agent):
    with pytest.raises(ValueError, match=rf"^agent {agent} is not in this simulator \(500 agents: 0–499\)$"):
        gym.make("PersimEnv-v0", agent=agent)


def test_an_unknown_simulator_is_an_error_that_lists_those_there_are():
    with pytest.raises(KeyError) as error:
        gym.make("PersimEnv-v0", simulator="mountaincar/rando-v0")
    assert all(name in str(error.value) for name in BUNDLED)


def test_a_members_index_may_be_of_numpy(tiny):
    ahead = []
    for member in (2, np.int64(2)):
        env = tiny(agent=1, member=member)
        env.reset(seed=0)
        ahead.append(env.step(0)[0])
    np.testing.assert_array_equal(*ahead)


@pytest.mark.parametrize("member", [3, -1, "median", 1.5, None])
def test_an_unknown_member_is_refused(tiny, member):
    with pytest.raises(ValueError, match='use "mean", "random" or an index 0–2'):
        tiny(member=member)


def test_logged_starts_are_the_agents_own(save_car, tmp_path, cars):
    folder = str(save_car(tmp_path / "car"))
    env = PersimEnv(agent=3, simulator=folder, starts="logged")
    own = cars.obs[cars.trajectory == 3][0]
    np.testing.assert_array_equal(env.reset(seed=0)[0], own)
    rows = gym.make_vec("PersimEnv-v0", num_envs=3, agents=[0, 5, 0], simulator=folder, starts="logged")
    first = [cars.obs[cars.trajectory == agent][0] for agent in (0, 5, 0)]
    np.testing.assert_array_equal(rows.reset(seed=0)[0], first)


def test_logged_starts_are_drawn_among_all_of_an_agents_episodes(car_model, cars, tmp_path):
    agents, obs = np.array([2, 1, 2, 2]), np.float32([[-0.5, 0], [-0.6, 0], [-0.4, 0], [-0.3, 0]])
    folder = tmp_path / "car"
    save_model(car_model, name="mountaincar/tiny-v0", domain="mountaincar", starts=(agents, obs), folder=folder)
    env = PersimEnv(agent=2, simulator=str(tmp_path / "car"), starts="logged")
    env.reset(seed=0)
    assert {float(env.reset()[0][0]) for _ in range(50)} == {float(o[0]) for o in obs[agents == 2]}
    with pytest.raises(ValueError, match="holds no logged first observation of agent 0; use"):
        PersimEnv(agent=0, simulator=str(tmp_path / "car"), starts="logged")


def test_unknown_starts_are_refused(tiny):
    with pytest.raises(ValueError, match="starts='end'; use \"domain\""):
        tiny(starts="end")


@pytest.mark.parametrize(
    "keywords", [{"penalty": -0.1}, {"penalty": np.nan}, {"penalty": np.inf}, {"halt": 0.0}, {"halt": np.nan}], ids=str
)
def test_an_impossible_penalty_or_halt_is_refused(tiny, keywords):
    with pytest.raises(ValueError, match="must be finite and at least 0, halt=.* None or above 0"):
        tiny(**keywords)


@pytest.mark.parametrize("action", [3, -1, 1.0, [1], None, "1"], ids=str)
def test_an_action_outside_the_space_is_refused(tiny, action):
    env = tiny()
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"is outside the action space; expected Discrete\(3\)"):
        env.step(action)


def test_a_step_before_the_first_reset_is_refused(tiny):
    with pytest.raises(ValueError, match=r"call reset\(\) before step\(\)"):
        tiny().step(1)


def test_a_picture_before_the_first_reset_is_refused(tiny):
    with pytest.raises(ValueError, match=r"call reset\(\) before render\(\)"):
        tiny(render_mode="rgb_array").render()


def test_an_unknown_render_mode_is_refused(tiny):
    with pytest.raises(ValueError, match="render_mode='ansi' is not supported; use None, 'human', 'rgb_array'"):
        tiny(render_mode="ansi")


@pytest.mark.parametrize("obs", [[9.0, 0.0], [0.0], [np.nan, 0.0]], ids=str)
def test_a_first_observation_outside_the_space_is_refused(tiny, obs):
    with pytest.raises(ValueError, match=r"options\['obs'\] = .* is not in Box"):
        tiny().reset(options={"obs": obs})


def test_a_simulator_of_an_unknown_domain_is_refused(save_car, tmp_path):
    card = save_car(tmp_path / "tiny") / "card.json"
    card.write_text(card.read_text().replace('"domain": "mountaincar"', '"domain": "lunarlander"'))
    with pytest.raises(ValueError, match="unknown domain 'lunarlander'; known: mountaincar, cartpole"):
        PersimEnv(simulator=str(card.parent))


def test_an_environment_learns_about_its_agent(simulator, cars):
    folder = str(simulator.folder)
    data = stranger_of(cars)
    env, same = (gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=folder) for _ in range(2))
    start = {"obs": np.array([-0.5, 0.01], dtype=np.float32)}
    env.unwrapped.learn(data.obs, data.action, data.next_obs)
    expected = simulator.online(2)
    expected.update(data.obs, data.action, data.next_obs)
    for e in (env, same):
        e.reset(seed=0, options=start)
    learned, untouched = env.step(2)[0], same.step(2)[0]
    np.testing.assert_allclose(learned, expected(start["obs"][None], [2]).mean(0)[0], rtol=1e-5)
    assert not np.allclose(learned, untouched, rtol=1e-6)


def test_an_environment_of_an_agent_that_was_just_added(simulator, cars, tmp_path):
    bigger = simulator.personalize(stranger_of(cars))
    bigger.save(tmp_path / "bigger")
    env = gym.make("persim_gym:PersimEnv-v0", agent=5, simulator=str(tmp_path / "bigger"))
    obs, _ = env.reset(seed=0)
    np.testing.assert_allclose(env.step(0)[0], bigger.dynamics(5)(obs[None], [0]).mean(0)[0], rtol=1e-5)


def test_drawn_factors_change_with_episodes_and_repeat_with_seeds(simulator):
    folder = str(simulator.folder)
    obs = {"obs": np.array([-0.5, 0.01], dtype=np.float32)}
    env = gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=folder, factor="sample")

    def step(seed=None):
        env.reset(seed=seed, options=obs)
        return env.step(2)[0]

    first, second, again = step(seed=1), step(), step(seed=1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match='use "mean" or "sample"'):
        gym.make("persim_gym:PersimEnv-v0", simulator=folder, factor="median")
