"""True environments of one agent: Gymnasium's contract in every domain, and Gymnasium's own episodes."""

import copy
import hashlib
import pickle
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from support.domains import every_domain, random_actions

from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import POPULATION_SIZE
from persim_gym.envs.hetero import HeteroEnv

# --- the environment's contract ---------------------------------------------------------------------------------


@every_domain
# The spaces are Gymnasium's own, so both checkers say of ours what they say of Gymnasium's.
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized", "ignore:.*Box observation space m.* is -?infinity")
def test_the_checkers_of_gymnasium_and_sb3_find_no_fault(domain):
    gymnasium_check_env(gym.make(domain.env_id, agent=3).unwrapped, skip_render_check=True)
    sb3_check_env(gym.make(domain.env_id, agent=3), skip_render_check=True)


@every_domain
@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"]
)
def test_a_copy_keeps_covariates_and_state(domain, duplicate):
    env = gym.make(domain.env_id, agent=2).unwrapped
    env.reset(seed=1)
    actions = random_actions(domain, (10,))
    env.step(actions[0])
    twin = duplicate(env)
    assert twin.covariates == env.covariates == domain.agent_covariates(2)
    for action in actions[1:]:
        np.testing.assert_array_equal(twin.step(action)[0], env.step(action)[0])
    np.testing.assert_array_equal(twin.state, env.state)

    rows = gym.make_vec(domain.env_id, num_envs=2, agents=[2, 3])
    rows.reset(seed=1)
    twins = duplicate(rows.unwrapped)
    np.testing.assert_array_equal(twins.step(actions[:2])[0], rows.step(actions[:2])[0])


EPISODE_HASH = """
import hashlib, sys
import gymnasium as gym, numpy as np
import persim_gym
from persim_gym.envs import DOMAINS
for domain in DOMAINS.values():
    env = gym.make_vec(domain.env_id, num_envs=20, agents=range(20))
    env.action_space.seed(5)
    digest = hashlib.sha256(env.reset(seed=4)[0].tobytes())
    for _ in range(30):
        obs, reward, *_ = env.step(env.action_space.sample())
        digest.update(obs.tobytes() + reward.tobytes())
    print(domain.name, digest.hexdigest())
"""


def test_two_processes_with_one_seed_agree_bit_for_bit(capsys):
    exec(EPISODE_HASH, {})
    here = capsys.readouterr().out
    there = subprocess.run([sys.executable, "-c", EPISODE_HASH], capture_output=True, text=True, check=True).stdout
    assert here == there
    assert [line.split()[0] for line in here.splitlines()] == list(DOMAINS)


@every_domain
def test_a_seed_gives_one_episode_and_another_seed_another(domain):
    def episode(seed: int) -> str:
        env = gym.make(domain.env_id, agent=1)
        obs = [env.reset(seed=seed)[0]] + [env.step(a)[0] for a in random_actions(domain, (5,))]
        return hashlib.sha256(np.stack(obs).tobytes()).hexdigest()

    assert episode(0) == episode(0) != episode(1)


@every_domain
def test_a_time_limit_truncates(domain):
    env = gym.make(domain.env_id, agent=0, max_episode_steps=3).unwrapped
    assert gym.spec(domain.env_id).max_episode_steps == domain.episode_steps
    env = gym.make_vec(domain.env_id, num_envs=2, agents=[0, 1], max_episode_steps=3)
    env.reset(seed=0)
    for step in range(3):
        *_, truncated, _ = env.step(random_actions(domain, (2,)))
        assert truncated.tolist() == [step == 2] * 2


@every_domain
def test_bad_input_says_what_is_wrong(domain):
    first = domain.covariates[0]
    cases = [
        ({first.name: first.high + 1.0}, rf"{first.name}=.* is outside \[{first.low}, {first.high}\]"),
        ({first.name: float("nan")}, "is outside"),
        ({first.name: "heavy"}, "is outside"),
        ({"agent": 0, first.name: first.default}, "agent=0 already fixes the covariates"),
        ({"agent": POPULATION_SIZE}, f"agent {POPULATION_SIZE} is not in the {domain.name} population"),
        ({"agent": -1}, "agent -1 is not"),
        ({"agent": 1.5}, "agent 1.5 is not"),
    ]
    for keywords, message in cases:
        with pytest.raises(ValueError, match=message):
            gym.make(domain.env_id, **keywords)
    with pytest.raises(TypeError, match=f"unexpected keyword argument 'colour'; covariates: {first.name}"):
        gym.make(domain.env_id, colour=1.0)
    with pytest.raises(ValueError, match="render_mode='ascii' is not supported"):
        HeteroEnv(domain.name, render_mode="ascii")
    vector_cases = [
        ({"agents": [0, 1]}, "2 agents for 3 rows"),
        ({"agents": [0, 1, POPULATION_SIZE]}, "is not in the"),
        ({first.name: [first.low, first.high]}, f"2 values of {first.name} for 3 rows"),
        ({"agents": [0, 1, 2], first.name: first.default}, "already fixes the covariates"),
        ({"agents": [0, 1, 2], "agent": 1}, "both say which agents"),
    ]
    for keywords, message in vector_cases:
        with pytest.raises(ValueError, match=message):
            gym.make_vec(domain.env_id, num_envs=3, **keywords)


@every_domain
def test_bad_actions_and_states_say_what_is_wrong(domain):
    env = gym.make(domain.env_id).unwrapped
    action = random_actions(domain, ())
    with pytest.raises(ValueError, match=re.escape("call reset() first")):
        env.step(action)
    env.reset(seed=0)
    outside = [np.asarray(action) + 100] if isinstance(env.action_space, gym.spaces.Discrete) else []
    for wrong in (*outside, np.stack([action, action]), np.asarray(action) + np.nan):
        with pytest.raises(ValueError, match="is outside the action space"):
            env.step(wrong)
    with pytest.raises(ValueError, match="finite numbers"):
        env.reset(options={"state": [np.nan]})
    with pytest.raises(ValueError, match="reset knows no option low; known: state"):
        env.reset(options={"low": -0.5})
    rows = gym.make_vec(domain.env_id, num_envs=2)
    with pytest.raises(ValueError, match="reset knows no option low; known: reset_mask"):
        rows.reset(options={"low": -0.5})


@every_domain
def test_a_vector_environment_takes_one_agent_for_all_rows(domain):
    rows = gym.make_vec(domain.env_id, num_envs=3, agent=7)
    for covariate, value in domain.agent_covariates(7).items():
        np.testing.assert_array_equal(rows.unwrapped.covariates[covariate], value)


def test_a_box_action_is_clipped_to_its_space():
    env = gym.make("persim_gym:HeteroHalfCheetah-v0", agent=0).unwrapped
    ahead = []
    for action in (env.action_space.high, env.action_space.high * 1.0001, env.action_space.high + 100):
        env.reset(seed=0)
        ahead.append(env.step(action)[0])
    np.testing.assert_array_equal(ahead[1:], ahead[:1] * 2)


@every_domain
def test_it_is_drawn_as_gymnasium_draws_it(domain):
    env = gym.make_vec(domain.env_id, num_envs=2, agents=[0, 1], render_mode="rgb_array")
    env.reset(seed=0)
    try:
        frames = env.render()
    except RuntimeError as error:
        assert "OpenGL does not start" in str(error)
        pytest.skip("this machine has no OpenGL")
    assert len(frames) == 2
    for frame in frames:
        assert frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
        assert frame.std() > 1.0
    env.close()


# --- Gymnasium's own environments, and independent formulas -----------------------------------------------------


@pytest.mark.parametrize(
    ("name", "gymnasium_id"),
    [("mountaincar", "MountainCar-v0"), ("cartpole", "CartPole-v1"), ("pendulum", "Pendulum-v1")],
)
def test_default_covariates_are_gymnasiums_own_episodes(name, gymnasium_id):
    domain = DOMAINS[name]
    ours, theirs = gym.make(domain.env_id), gym.make(gymnasium_id, max_episode_steps=domain.episode_steps)
    np.testing.assert_array_equal(ours.reset(seed=3)[0], theirs.reset(seed=3)[0])
    for action in random_actions(domain, (1000,)):
        (obs, reward, *ends, _), (their_obs, their_reward, *their_ends, _) = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(obs, their_obs)
        assert obs.dtype == their_obs.dtype
        assert ends == their_ends
        if name == "mountaincar" and ends[0]:  # the goal earns 0 here
            their_reward += 1.0
        assert reward == their_reward
        if any(ends):
            np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])
