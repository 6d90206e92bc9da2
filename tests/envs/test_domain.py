"""What holds in every domain: its population, its physics and its task, against independent formulas."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from support.domains import (
    OBSERVED,
    every_domain,
    hidden_domain,
    observed_domain,
    pickle_around,
    random_actions,
    states_on_the_way,
)

from persim_gym.envs import DOMAINS
from persim_gym.envs.domain import POPULATION_SIZE
from persim_gym.envs.mujoco.physics import Robot


def in_torch(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values))


# --- the environment's contract ---------------------------------------------------------------------------------


@every_domain
def test_the_population_is_table_5_1_then_uniform(domain):
    low, high = (np.array([getattr(c, end) for c in domain.covariates]) for end in ("low", "high"))
    assert domain.population.shape == (POPULATION_SIZE, len(domain.covariates))
    np.testing.assert_array_equal(domain.population[:5], domain.test_agents)
    assert ((domain.population >= low) & (domain.population <= high)).all()
    relative = (domain.population[5:] - low) / (high - low)
    assert (abs(relative.mean(0) - 0.5) < 0.05).all()
    assert gym.make(domain.env_id, agent=17).unwrapped.covariates == domain.agent_covariates(17)


# --- rows, batches, tasks ---------------------------------------------------------------------------------------


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


@observed_domain
def test_dynamics_on_observations_agree_with_the_environment(domain):
    env = gym.make(domain.env_id, agent=3).unwrapped
    env.reset(seed=0)
    actions = random_actions(domain, (2,))
    env.step(actions[0])
    obs = domain.observe(env.state)
    if domain.random:  # The expectation is that of the state that the observation is embedded in.
        env.reset(options={"state": domain.embed(obs)})
    dynamics = pickle_around(domain.dynamics(agent=3))
    predicted = dynamics(obs, actions[1])
    np.testing.assert_allclose(predicted, env.step(actions[1])[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(domain.observe(domain.embed(obs)), obs, rtol=0, atol=1e-12)
    assert len(domain.observation_names) == obs.shape[-1] == domain.observation_space.shape[0]


@hidden_domain
def test_observations_that_hide_a_part_of_the_state_have_no_dynamics_but_a_look(domain):
    with pytest.raises(ValueError, match=f"observations of {domain.env_id} hide a part of the state"):
        domain.dynamics(agent=3)
    obs = domain.observe(states_on_the_way(domain, 20))
    np.testing.assert_allclose(domain.observe(domain.embed(obs)), obs, rtol=0, atol=1e-9)
    assert len(domain.observation_names) == obs.shape[-1] == domain.observation_space.shape[0]


@hidden_domain
def test_what_chance_brings_is_in_the_state_and_an_episode_without_end_goes_on(domain):
    states = domain.initial_state(np.random.default_rng(0), 4)
    physics, action = domain.physics(**domain.agent_covariates(1)), random_actions(domain, (4,))
    np.testing.assert_array_equal(physics(states, action), physics(states.copy(), action))
    for _ in range(domain.episode_steps + 2):
        states = physics(states, action)
    assert np.isfinite(domain.observe(states)).all()


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


def revenue(obs, action, customers, lateness, sensitivity, fare_ratio):
    """The expectation over the Poisson number of customers who buy, one number after the other."""
    seats, days, earned = obs
    if action == 0 or days == 0:
        return seats, max(days - 1, 0), earned
    elapsed, fare = 1 - (days - 0.5) / 60, fare_ratio ** (int(action) - 1)
    coming = customers / 60 * (1 - lateness + 2 * lateness * elapsed)
    mean = coming * np.exp(-fare * sensitivity * (1 - 0.9 * elapsed))
    chance = [np.exp(-mean)]
    for number in range(1, 100):
        chance.append(chance[-1] * mean / number)
    sold = sum(p * min(number, seats) for number, p in enumerate(chance))
    return seats - sold, days - 1, earned + fare * sold


CLASSIC = [d for d in OBSERVED.values() if not isinstance(getattr(d.physics, "__self__", None), Robot)]
FORMULAS = {"mountaincar": mountain_car, "cartpole": cart_pole, "pendulum": pendulum, "revenue": revenue}


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


@pytest.mark.parametrize("name", OBSERVED)
def test_true_dynamics_take_a_single_observation(name):
    domain = DOMAINS[name]
    dynamics = domain.dynamics(0)
    obs = domain.observe(domain.initial_state(np.random.default_rng(0), 3))
    action = np.stack([domain.action_space.sample() for _ in range(3)])
    many, alone = dynamics(obs, action), dynamics(obs[1], action[1])
    assert alone.shape == obs[1].shape
    np.testing.assert_allclose(alone, many[1], rtol=1e-9, atol=1e-9)
