"""The MuJoCo domains against Gymnasium's environments and against independently edited MuJoCo models."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import Robot, load_model, thread_count

ROBOTS = {d.name: d for d in DOMAINS.values() if isinstance(getattr(d.physics, "__self__", None), Robot)}


# Computed by MuJoCo when it compiles a model, and left as they are when masses are scaled (the thesis's convention).
DERIVED_FROM_MASS = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "tendon_invweight0")
every_robot = pytest.mark.parametrize("domain", ROBOTS.values(), ids=ROBOTS)


@pytest.fixture(autouse=True)
def no_log_of_deprecated_attributes():
    """Gymnasium's own XML files use settotalmass; MuJoCo writes about it to a file in the working directory."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    yield
    mujoco.set_mju_user_warning(before)


def gymnasiums_own(domain):
    """Gymnasium's environment of this robot, without the observations and costs that need contact forces."""
    return gym.make(f"{domain.title.removeprefix('Slim')}-v5").unwrapped


def random_actions(domain, *shape, seed=0):
    space = domain.action_space
    return np.random.default_rng(seed).uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def on_the_way(domain, steps=30, rows=20):
    """States of `rows` agents after a while, [rows, S]: in contact with the ground, limbs at their limits."""
    physics = domain.physics(**dict(zip(("mass", "damping"), domain.population[:rows].T, strict=True)))
    state = domain.initial_state(np.random.default_rng(1), rows)
    for action in random_actions(domain, steps, rows):
        state = physics(state, action)
    return state


@every_robot
def test_default_covariates_move_exactly_as_gymnasiums_environment(domain):
    ours, theirs = gym.make(domain.env_id).unwrapped, gymnasiums_own(domain)
    robot = domain.physics.__self__
    ours.reset(seed=0)
    theirs.reset(seed=0)
    theirs.set_state(ours.state[robot.qpos], ours.state[robot.qvel])
    for action in random_actions(domain, 500):
        before = ours.state[1]
        _, reward, terminated, *_ = ours.step(action)
        _, their_reward, their_end, _, their_info = theirs.step(action)
        np.testing.assert_array_equal(ours.state[robot.qpos], theirs.data.qpos)
        np.testing.assert_array_equal(ours.state[robot.qvel], theirs.data.qvel)
        assert ours.state[0] == (theirs.data.qpos[0] - before) / theirs.dt
        assert terminated == their_end
        if domain.name in ("ant", "slimhumanoid"):  # without contact forces, and of the torso's velocity
            weight = their_info["reward_forward"] / their_info["x_velocity"]
            expected = weight * ours.state[0] + their_info["reward_ctrl"] + their_info["reward_survive"]
            assert reward == pytest.approx(expected, rel=1e-5, abs=1e-6)
        else:
            assert reward == their_reward
        if terminated:
            ours.reset()
            theirs.reset()
            theirs.set_state(ours.state[robot.qpos], ours.state[robot.qvel])


@every_robot
def test_the_action_space_and_the_start_are_gymnasiums(domain):
    ours, theirs = gym.make(domain.env_id).unwrapped, gymnasiums_own(domain)
    robot = domain.physics.__self__
    assert ours.action_space == theirs.action_space
    assert robot.frame_skip == theirs.frame_skip
    assert domain.render_fps == theirs.metadata["render_fps"]
    for seed in range(3):
        ours.reset(seed=seed)
        theirs.reset(seed=seed)
        if domain.name == "halfcheetah":  # starts with a hundredth of Gymnasium's noise
            assert 0.0 < abs(ours.state[1:]).max() < 0.005
        else:
            np.testing.assert_array_equal(ours.state[robot.qpos], theirs.data.qpos)
            np.testing.assert_array_equal(ours.state[robot.qvel], theirs.data.qvel)


def edited_model(domain, mass, damping):
    """The robot's file, its masses and damping edited before MuJoCo compiles it; inertias and constants kept."""
    path = gymnasiums_own(domain).fullpath
    original, spec = mujoco.MjModel.from_xml_path(path), mujoco.MjSpec.from_file(path)
    spec.compiler.settotalmass = -1
    for index, body in enumerate(spec.bodies):
        body.name = body.name or f"body {index}"
    numbering = spec.compile()
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    for body in spec.bodies[1:]:
        compiled = original.body(numbering.body(body.name).id)
        body.explicitinertial = True
        body.mass = compiled.mass[0] * mass
        body.inertia, body.ipos, body.iquat = compiled.inertia, compiled.ipos, compiled.iquat
    for joint in spec.joints:
        joint.damping = joint.damping * damping
    model = spec.compile()
    for name in DERIVED_FROM_MASS:
        getattr(model, name)[:] = getattr(original, name)
    return model


@every_robot
@pytest.mark.parametrize("mass, damping", [(0.2, 1.0), (1.8, 1.0), (1.0, 0.2), (1.0, 1.8), (0.45, 1.3)])
def test_each_covariate_changes_the_next_state_as_an_edited_model_says(domain, mass, damping):
    robot = domain.physics.__self__
    states, actions = on_the_way(domain), random_actions(domain, 20, seed=7)
    ours = domain.physics(mass=mass, damping=damping)(states, actions)
    model = edited_model(domain, mass, damping)
    for state, action, next_state in zip(states, actions, ours, strict=True):
        data = mujoco.MjData(model)
        data.qpos, data.qvel, data.ctrl = state[robot.qpos], state[robot.qvel], action
        data.qacc_warmstart = state[-robot.nv :]
        mujoco.mj_step(model, data, robot.frame_skip)
        expected = np.concatenate([data.qpos, data.qvel, data.qacc_warmstart])
        np.testing.assert_array_equal(next_state[1:], expected)
    default = domain.physics(mass=1.0, damping=1.0)(states, actions)
    assert (abs(domain.observe(ours) - domain.observe(default)).max(axis=-1) > 1e-4).all()


@every_robot
def test_each_row_of_a_batch_has_its_own_model(domain):
    covariates = domain.population[:20].T
    state, actions = on_the_way(domain), random_actions(domain, 20, seed=7)
    together = domain.physics(mass=covariates[0], damping=covariates[1])(state, actions)
    for row, (mass, damping) in enumerate(covariates.T):
        alone = domain.physics(mass=float(mass), damping=float(damping))(state[row], actions[row])
        np.testing.assert_array_equal(together[row], alone)


@every_robot
def test_the_number_of_threads_changes_nothing(domain, monkeypatch):
    state, actions = on_the_way(domain), random_actions(domain, 20, seed=7)
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert thread_count() <= int(threads)
        results.append(domain.physics(mass=0.5, damping=1.5)(state, actions))
    np.testing.assert_array_equal(results[0], results[1])


def test_a_diverging_simulation_shows_as_nan_and_leaves_its_neighbours_alone():
    domain = DOMAINS["halfcheetah"]
    state, actions = on_the_way(domain), random_actions(domain, 20, seed=7)
    physics = domain.physics(mass=1.0, damping=1.0)
    healthy = physics(state, actions)
    state[3, 12] = np.inf
    with_one_lost = physics(state, actions)
    assert np.isnan(with_one_lost[3]).any()
    others = np.arange(20) != 3
    np.testing.assert_array_equal(with_one_lost[others], healthy[others])
    np.testing.assert_array_equal(physics(on_the_way(domain), actions), healthy)


def test_the_shared_model_stays_as_gymnasium_made_it():
    domain = DOMAINS["halfcheetah"]
    domain.physics(mass=0.2, damping=0.2)(on_the_way(domain), random_actions(domain, 20))
    model, theirs = load_model("half_cheetah.xml"), gymnasiums_own(domain).model
    np.testing.assert_array_equal(model.body_mass, theirs.body_mass)
    np.testing.assert_array_equal(model.dof_damping, theirs.dof_damping)


def test_random_agents_earn_what_the_thesis_reports():
    """Table A.1: −251.75 on average over 500 agents; here every tenth of them."""
    env = gym.make_vec("HeteroHalfCheetah-v0", num_envs=50, agents=range(0, 500, 10))
    env.reset(seed=0)
    returns = np.zeros(50)
    for actions in random_actions(DOMAINS["halfcheetah"], 1000, 50):
        returns += env.step(actions)[1]
    assert returns.mean() == pytest.approx(-251.75, rel=0.1)


@every_robot
def test_a_rollout_equals_the_steps_of_the_environment(domain):
    """Bit for bit on full states; on observations the contact solver starts where it stopped."""
    rng = np.random.default_rng(3)
    state = domain.initial_state(rng, 6)
    actions = rng.uniform(domain.action_space.low, domain.action_space.high, (6, 12, *domain.action_space.shape))
    physics = domain.physics(**domain.agent_covariates(2))
    states = physics.rollout(state, actions)
    now = state
    for t in range(12):
        now = physics(now, actions[:, t])
        np.testing.assert_array_equal(states[:, t], now)
    dynamics = domain.dynamics(2)
    obs = domain.observe(state)
    ahead = dynamics.rollout(obs[None], actions)
    assert ahead.shape == (1, 6, 12, obs.shape[-1])
    np.testing.assert_allclose(ahead[0, :, :4], domain.observe(states[:, :4]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ahead[0, :, 0], dynamics(obs, actions[:, 0]), rtol=1e-9, atol=1e-9)
