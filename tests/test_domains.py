"""What holds in every domain, and the classic domains' equality with Gymnasium and with independent formulas."""

import copy
import hashlib
import pickle
import re
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import persim_gym  # noqa: F401
from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import POPULATION_SIZE, Domain
from persim_gym.envs.hetero import HeteroEnv
from persim_gym.envs.mujoco.physics import Robot

AGENTS = [0, 4, 17, 499]

every_domain = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS)


def random_actions(domain: Domain, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Actions [*shape] or [*shape, A], uniform."""
    rng = np.random.default_rng(seed)
    space = domain.action_space
    if isinstance(space, gym.spaces.Discrete):
        return rng.integers(space.start, space.start + space.n, shape)
    return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def pickle_around(env):
    return pickle.loads(pickle.dumps(env))


def in_torch(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values))


def states_on_the_way(domain: Domain, steps: int, seed: int = 0) -> np.ndarray:
    """States of a random episode of 8 different agents, [steps, 8, S]."""
    covariates = dict(zip((c.name for c in domain.covariates), domain.population[:8].T, strict=True))
    physics = domain.physics(**covariates)
    states = [domain.initial_state(np.random.default_rng(seed), 8)]
    for action in random_actions(domain, (steps - 1, 8), seed):
        states.append(physics(states[-1], action))
    return np.stack(states)


# --- the environment's contract ---------------------------------------------------------------------------------


@every_domain
# The spaces are Gymnasium's own, so both checkers say of ours what they say of Gymnasium's.
@pytest.mark.filterwarnings("ignore:.*symmetric and normalized")
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
        ({"colour": 1.0}, f"no keyword colour; covariates: {first.name}"),
        ({"agent": 0, first.name: first.default}, "agent=0 already fixes the covariates"),
        ({"agent": POPULATION_SIZE}, f"agent {POPULATION_SIZE} is not in the {domain.name} population"),
        ({"agent": -1}, "agent -1 is not"),
        ({"agent": 1.5}, "agent 1.5 is not"),
    ]
    for keywords, message in cases:
        with pytest.raises(ValueError, match=message):
            gym.make(domain.env_id, **keywords)
    with pytest.raises(ValueError, match="render_mode='ascii' is not supported"):
        HeteroEnv(domain.name, render_mode="ascii")
    vector_cases = [
        ({"agents": [0, 1]}, "2 agents for 3 rows"),
        ({"agents": [0, 1, POPULATION_SIZE]}, "is not in the"),
        ({first.name: [first.low, first.high]}, f"2 values of {first.name} for 3 rows"),
        ({"agents": [0, 1, 2], first.name: first.default}, "already fixes the covariates"),
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
    outside = np.asarray(action) + 100
    for wrong in (outside, np.stack([action, action]), np.asarray(action) + np.nan):
        with pytest.raises(ValueError, match="is outside the action space"):
            env.step(wrong)
    with pytest.raises(ValueError, match="finite numbers"):
        env.reset(options={"state": [np.nan]})


@every_domain
def test_the_population_is_table_5_1_then_uniform(domain):
    low, high = (np.array([getattr(c, end) for c in domain.covariates]) for end in ("low", "high"))
    assert domain.population.shape == (POPULATION_SIZE, len(domain.covariates))
    np.testing.assert_array_equal(domain.population[:5], domain.test_agents)
    assert ((domain.population >= low) & (domain.population <= high)).all()
    relative = (domain.population[5:] - low) / (high - low)
    assert (abs(relative.mean(0) - 0.5) < 0.05).all()
    assert gym.make(domain.env_id, agent=17).unwrapped.covariates == domain.agent_covariates(17)


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


# --- rows, batches, tasks ---------------------------------------------------------------------------------------


@every_domain
def test_a_vector_row_equals_the_single_environment(domain):
    num, steps = 11, 200
    agents = [*AGENTS, *range(100, 107)]
    seeds = list(range(num))
    actions = random_actions(domain, (steps, num))
    rows = gym.make_vec(domain.env_id, num_envs=num, agents=agents)
    first, _ = rows.reset(seed=seeds)
    results = [rows.step(a)[:3] for a in actions]
    for row, (agent, seed) in enumerate(zip(agents, seeds, strict=True)):
        env = gym.make(domain.env_id, agent=agent)
        np.testing.assert_array_equal(env.reset(seed=seed)[0], first[row])
        for (obs, reward, terminated), action in zip(results, actions[:, row], strict=True):
            single = env.step(action)
            np.testing.assert_array_equal(single[0], obs[row])
            assert single[1] == (reward[row] if domain.exact_reward is None else pytest.approx(reward[row], abs=1e-9))
            assert single[2] == terminated[row]
            if single[2]:
                break


@every_domain
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_autoreset(domain, mode):
    """Episodes of 3 steps: rows end together, and go on as the mode says."""
    env = gym.make_vec(domain.env_id, num_envs=4, agents=AGENTS, max_episode_steps=3, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    env.reset(seed=0)
    actions = random_actions(domain, (4, 4))
    for action in actions[:3]:
        last, _, terminated, truncated, info = env.step(action)
        assert not terminated.any()
    assert truncated.all()

    if mode is AutoresetMode.SAME_STEP:
        finals = np.stack(list(info["final_obs"]))
        assert info["_final_obs"].all()
        assert not np.array_equal(finals, last)
        assert env.step(actions[3])[3].tolist() == [False] * 4
    elif mode is AutoresetMode.NEXT_STEP:
        obs, reward, terminated, truncated, _ = env.step(actions[3])
        assert (reward == 0.0).all() and not terminated.any() and not truncated.any()
        assert not np.array_equal(obs, last)
        assert not env.step(actions[3])[3].any()
    else:
        with pytest.raises(ValueError, match="have finished; reset them"):
            env.step(actions[3])
        half = np.array([True, True, False, False])
        obs, _ = env.reset(options={"reset_mask": half})
        np.testing.assert_array_equal(obs[~half], last[~half])
        assert (obs[half] != last[half]).any(axis=-1).all()
        with pytest.raises(ValueError, match=re.escape("rows [2, 3] have finished")):
            env.step(actions[3])


@every_domain
def test_physics_accepts_any_leading_dimensions(domain):
    states = states_on_the_way(domain, 6)[:, :5]  # [6, 5, S]
    actions = random_actions(domain, (6, 5))
    physics = domain.physics(**domain.agent_covariates(9))
    together = physics(states, actions)
    assert together.shape == states.shape
    for i in range(6):
        np.testing.assert_array_equal(physics(states[i], actions[i]), together[i])
    np.testing.assert_array_equal(physics(states[2, 3], actions[2, 3]), together[2, 3])


@every_domain
def test_physics_is_a_pure_function(domain):
    states = states_on_the_way(domain, 20)[10:]
    actions = random_actions(domain, states.shape[:2])
    physics = domain.physics(**domain.agent_covariates(0))
    before = states.copy(), actions.copy()
    once = physics(states, actions)
    physics(states[::-1], actions)  # other work in between leaves no trace
    np.testing.assert_array_equal(physics(states, actions), once)
    np.testing.assert_array_equal(states, before[0])
    np.testing.assert_array_equal(actions, before[1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(physics))(states, actions), once)


@every_domain
def test_dynamics_on_observations_agree_with_the_environment(domain):
    env = gym.make(domain.env_id, agent=3).unwrapped
    env.reset(seed=0)
    actions = random_actions(domain, (2,))
    env.step(actions[0])
    obs = domain.observe(env.state)
    dynamics = pickle_around(domain.dynamics(agent=3))
    predicted = dynamics(obs, actions[1])
    np.testing.assert_allclose(predicted, env.step(actions[1])[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(domain.observe(domain.embed(obs)), obs, rtol=0, atol=1e-12)
    assert len(domain.observation_names) == obs.shape[-1] == domain.observation_space.shape[0]


@every_domain
def test_the_task_is_the_same_in_numpy_and_torch_and_row_by_row(domain):
    obs = domain.observe(states_on_the_way(domain, 40))
    actions = random_actions(domain, (39, 8))
    reward = domain.task.reward(obs[:-1], actions, obs[1:])
    terminated = domain.task.terminated(obs)
    assert reward.shape == (39, 8) and terminated.shape == (40, 8) and terminated.dtype == np.bool_
    in_torch = domain.task.reward(*(torch.as_tensor(np.ascontiguousarray(x)) for x in (obs[:-1], actions, obs[1:])))
    np.testing.assert_allclose(in_torch.numpy(), reward, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(
        domain.task.terminated(torch.as_tensor(np.ascontiguousarray(obs))).numpy(), terminated
    )
    assert float(domain.task.reward(obs[3, 2], actions[3, 2], obs[4, 2])) == pytest.approx(reward[3, 2], abs=1e-7)
    assert bool(domain.task.terminated(obs[3, 2])) == terminated[3, 2]


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


def test_pendulums_reward_of_observations_is_gymnasiums_but_for_rounding():
    domain = DOMAINS["pendulum"]
    states, actions = states_on_the_way(domain, 200)[:, 0], random_actions(domain, (199,))
    exact = [domain.exact_reward(*step) for step in zip(states[:-1], actions, states[1:], strict=True)]
    obs = domain.observe(states)
    np.testing.assert_allclose(domain.task.reward(obs[:-1], actions, obs[1:]), exact, rtol=0, atol=1e-9)


def mountain_car(obs, action, gravity):
    position, velocity = obs
    velocity = np.clip(velocity + 0.001 * (int(action) - 1) - gravity * np.cos(3 * position), -0.07, 0.07)
    position = np.clip(position + velocity, -1.2, 0.6)
    return position, 0.0 if position == -1.2 and velocity < 0 else velocity


def cart_pole(obs, action, force, length):
    """Barto, Sutton and Anderson's equations of motion, solved as a linear system in the two accelerations."""
    x, x_dot, theta, theta_dot = obs
    push = force if action == 1 else -force
    mass_matrix = [
        [1.0 + 0.1, 0.1 * length * np.cos(theta)],
        [np.cos(theta), 4.0 / 3.0 * length],
    ]
    forces = [push + 0.1 * length * theta_dot**2 * np.sin(theta), 9.8 * np.sin(theta)]
    x_acc, theta_acc = np.linalg.solve(mass_matrix, forces)
    return x + 0.02 * x_dot, x_dot + 0.02 * x_acc, theta + 0.02 * theta_dot, theta_dot + 0.02 * theta_acc


def pendulum(obs, action, length, mass):
    """A rod of moment of inertia m l² / 3 about its end, under gravity and the motor's torque."""
    angle, speed = np.arctan2(obs[1], obs[0]), obs[2]
    torque = mass * 10.0 * length / 2 * np.sin(angle) + action[0]
    speed = np.clip(speed + 0.05 * torque / (mass * length**2 / 3), -8.0, 8.0)
    angle += 0.05 * speed
    return np.cos(angle), np.sin(angle), speed


CLASSIC = [d for d in DOMAINS.values() if not isinstance(getattr(d.physics, "__self__", None), Robot)]
FORMULAS = {"mountaincar": mountain_car, "cartpole": cart_pole, "pendulum": pendulum}


@pytest.mark.parametrize("domain", CLASSIC, ids=lambda domain: domain.name)
def test_each_covariate_changes_the_next_observation_as_an_independent_formula_says(domain):
    """A new classic domain needs its formula above; test_mujoco_domains.py has the robots' certificate."""
    formula = FORMULAS[domain.name]
    default = {c.name: c.default for c in domain.covariates}
    states = states_on_the_way(domain, 30).reshape(-1, *domain.initial_state(np.random.default_rng(), 1).shape[1:])
    obs, actions = domain.observe(states), random_actions(domain, (len(states),)).astype(np.float64)
    unchanged = np.array([formula(o, a, **default) for o, a in zip(obs, actions, strict=True)])
    for covariate in domain.covariates:
        for value in (covariate.low, 0.3 * covariate.low + 0.7 * covariate.high, covariate.high):
            covariates = {**default, covariate.name: value}
            expected = np.array([formula(o, a, **covariates) for o, a in zip(obs, actions, strict=True)])
            np.testing.assert_allclose(domain.dynamics(**covariates)(obs, actions), expected, rtol=1e-12, atol=1e-14)
            assert not np.allclose(expected, unchanged, rtol=1e-6)


# --- imports ----------------------------------------------------------------------------------------------------

IMPORT = """
import sys
import gymnasium
before = set(sys.modules)
import persim_gym
loaded = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
print(*sorted({".".join(name.split(".")[:2]) for name in loaded}))
"""


def test_importing_the_package_loads_the_environments_and_no_other_library():
    """No timing: a fifth of the seconds that Gymnasium itself takes, as long as nothing else is loaded."""
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    parts = {"persim_gym", "persim_gym.envs", "persim_gym.task", "persim_gym.version"}
    assert set(done.stdout.split()) == {"gymnasium.envs", *parts}
