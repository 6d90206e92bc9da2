"""A simulator of anyone's data: learned or imported tasks, spaces on the card, and the page that explains it."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from minari.data_collector import EpisodeBuffer
from support.recipes import TINY
from support.tanks import AGENTS, tank_logs, tanks_of

from persim_gym.datasets.load import load, load_for_training, open_dataset
from persim_gym.datasets.minari_adapter import spec_of_dataset
from persim_gym.planning import MPC, RandomShooting
from persim_gym.policies import PolicyTraining, read_policy, run_training
from persim_gym.policies import train as policy_training
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator import load_simulator
from persim_gym.simulator.training import recipe as recipes
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.spec import EnvironmentSpec, task_at
from persim_gym.storage import CARD, README
from persim_gym.task import Task
from persim_gym.transitions import Transitions
from persim_gym.workflows.film import film
from persim_gym.workflows.train import train

# Minari advises to record an author, a description and the like.
pytestmark = pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari")
PAGE = Path(__file__).parents[2] / "docs" / "your-data.md"
QUICK = replace(TINY, epochs=40, learning_rate=1e-2, schedule="one-cycle", state_layers=(32,))


def all_logs() -> list[dict[str, np.ndarray]]:
    """Five episodes an agent."""
    return [log for seed in range(1, 6) for log in tank_logs(seed)]


tank_task = Task(
    reward=lambda obs, action, next_obs: -abs(next_obs[..., 0] - 1.0),
    terminated=lambda next_obs: abs(next_obs[..., 0]) > 2.0,
)


@pytest.fixture(scope="module")
def tanks():
    """A Minari dataset of no environment, and quick general recipes."""
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    name = "my/tanks-v0"
    buffers = [EpisodeBuffer(**log, options={"agent": n % AGENTS}) for n, log in enumerate(all_logs())]
    minari.create_dataset_from_buffers(name, buffers, observation_space=box, action_space=spaces.Discrete(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipes, "_DEFAULT", QUICK)
        patch.setattr(recipes, "_DEFAULT_CONTINUOUS", replace(QUICK, action_layers=(16,), epochs=5))
        yield name


@pytest.fixture(scope="module")
def simulator(tanks, tmp_path_factory):
    """Its simulator, reward and end of episode learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(tmp_path_factory.mktemp("home")))
        return train(tanks, holdout=False, progress=False)


# --- learned reward and termination -------------------------------------------------------------------------------


def test_reward_and_termination_are_two_more_columns_of_a_prediction(simulator, tanks):
    data = load(tanks)
    shape = simulator.model.config
    assert (shape.obs_dim, shape.extra_dim, simulator.spec.task) == (2, 2, "learned")
    first = data.agent == 5
    predicted = simulator.dynamics(5)(data.obs[first], data.action[first])
    assert predicted.shape == (shape.members, first.sum(), 4)
    again = simulator.dynamics(5)(predicted, data.action[first])  # a prediction goes in as it came out
    np.testing.assert_array_equal(again, simulator.dynamics(5)(predicted[..., :2].copy(), data.action[first]))
    reward = simulator.task.reward(data.obs[first], data.action[first], predicted.mean(axis=0))
    assert np.corrcoef(reward, data.reward[first])[0, 1] > 0.95


def test_a_learned_end_of_episode_is_where_the_logged_one_is(simulator, tanks):
    data = load(tanks)
    ends, spared = [], []
    for agent in range(AGENTS):
        rows = data.agent == agent
        following = simulator.dynamics(agent)(data.obs[rows], data.action[rows]).mean(axis=0)
        ended = simulator.task.terminated(following)
        ends += ended[data.terminated[rows]].tolist()
        spared += (~ended[~data.terminated[rows]]).tolist()
    assert len(ends) >= 5 and np.mean(ends) > 0.5
    assert np.mean(spared) > 0.95


def populations_of(**columns) -> Transitions:
    """Transitions of six agents, 100 each, that end nowhere."""
    agent = np.repeat(np.arange(6), 100)
    return Transitions(
        agent=agent, terminated=np.zeros(600, dtype=bool), trajectory=agent, n_agents=6, source="my/data-v0", **columns
    )  # fmt: skip


def rmse_of(simulator, data: Transitions) -> np.ndarray:
    """One-step error by column, reward last."""
    columns = [torch.from_numpy(x) for x in (data.agent, data.obs, data.action)]
    predicted = simulator.model.predict(*columns).mean(0).numpy()[:, :-1]
    return np.sqrt(np.square(predicted - np.column_stack([data.next_obs, data.reward])).mean(0))


def test_agents_that_differ_in_their_reward_alone_keep_it(home):
    rng = np.random.default_rng(0)
    obs, action = rng.uniform(-1, 1, (600, 1)), rng.integers(2, size=600)
    next_obs = obs + 0.1 * (2 * action[:, None] - 1) + 0.01 * rng.normal(size=obs.shape)
    goal = np.repeat(np.linspace(-1, 1, 6), 100)
    data = populations_of(obs=obs, action=action, next_obs=next_obs, reward=goal * next_obs[:, 0])
    interface = EnvironmentSpec(spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2), 10)
    recipe = replace(QUICK, polish=True)
    folder = train(data, name="my/goals", spec=interface, recipe=recipe, holdout=False, progress=False).folder
    simulator = load_simulator(str(folder))
    assert rmse_of(simulator, data)[-1] < 0.1 * data.reward.std()
    own, rows = rmse_of(simulator, data)[-1], data.agent == 5
    stranger = replace(data.select(rows), agent=np.zeros(100, dtype=int), n_agents=1)
    bigger = simulator.personalize(stranger)
    assert rmse_of(bigger, replace(stranger, agent=np.full(100, 6), n_agents=7))[-1] < 2 * own
    online = simulator.online()
    online.update(stranger.obs, stranger.action, stranger.next_obs, stranger.reward, stranger.terminated)
    np.testing.assert_allclose(online.factor, bigger.dynamics(6).factor, rtol=1e-4, atol=1e-5)
    env = make(simulator, agent=0).unwrapped
    env.reset(options={"obs": [0.5]})
    before = env.step(1)[1]
    env.learn(*(getattr(stranger, name) for name in ("obs", "action", "next_obs", "reward")))
    env.reset(options={"obs": [0.5]})
    assert env.step(1)[1] > before + 0.2  # agent 0 wants to the other side


def test_categories_that_are_all_at_their_bounds_tell_agents_apart(home):
    rng, eye = np.random.default_rng(0), np.eye(4, dtype=np.float32)
    now, action = rng.integers(4, size=600), rng.integers(2, size=600)
    forward = action == np.repeat(np.arange(6), 100) % 2  # what moves even agents forward moves the others back
    following = (now + np.where(forward, 1, -1)) % 4
    data = populations_of(obs=eye[now], action=action, next_obs=eye[following], reward=np.zeros(600))
    interface = EnvironmentSpec(spaces.Box(0, 1, (4,), np.float32), spaces.Discrete(2), 10)
    recipe = replace(QUICK, polish=True)
    folder = train(data, name="my/rings", spec=interface, recipe=recipe, holdout=False, progress=False).folder
    simulator = load_simulator(str(folder))
    assert rmse_of(simulator, data).max() < 0.1
    fresh = replace(data.select(data.agent == 3), agent=np.zeros(100, dtype=int), n_agents=1)
    bigger = simulator.personalize(fresh)
    assert rmse_of(bigger, replace(fresh, agent=np.full(100, 6), n_agents=7)).max() < 0.1
    assert bigger.beliefs.undetermined(6) < simulator.model.config.rank


@pytest.mark.parametrize(("value", "standardize"), [(0.0, True), (3.0, True), (1e4, True), (0.0, False), (3.0, False)])
def test_a_column_that_never_changes_is_in_nobody_s_way(tanks, home, value, standardize):
    data = load(tanks)
    column = np.full((len(data), 1), value, dtype=np.float32)
    data = replace(data, obs=np.hstack([data.obs, column]), next_obs=np.hstack([data.next_obs, column]))
    interface = EnvironmentSpec(spaces.Box(-1e9, 1e9, (3,), np.float32), spaces.Discrete(2), 60)
    recipe = replace(QUICK, standardize=standardize, epochs=5)
    folder = train(data, name="my/dials-v0", spec=interface, recipe=recipe, holdout=False, progress=False).folder
    simulator = load_simulator(str(folder))
    rows = data.agent == 3
    columns = [torch.from_numpy(x[rows]) for x in (data.agent, data.obs, data.action)]
    predicted = simulator.model.predict(*columns).numpy()
    np.testing.assert_allclose(simulator.dynamics(3)(data.obs[rows], data.action[rows]), predicted, atol=1e-2)
    if standardize:
        np.testing.assert_allclose(predicted[..., 2], value, rtol=1e-6, atol=1e-6)
    assert np.median(simulator.model.disagreement(predicted)) < 1


# --- as an environment and in a planner ---------------------------------------------------------------------------


def make(simulator, **keywords):
    return gym.make("persim_gym:PersimEnv-v0", simulator=str(simulator.folder), **keywords)


@pytest.mark.filterwarnings("ignore:.*Box observation space m.* is -?infinity")
def test_the_environment_of_a_simulator_without_domain_passes_gymnasiums_checker(simulator):
    env = make(simulator, agent=3).unwrapped
    assert env.domain is None and env.observation_space.shape == (2,)
    check_env(env, skip_render_check=True)


def test_episodes_start_as_the_agents_logged_ones(simulator, tanks):
    data = load(tanks)
    agents, first = data.starts()
    env = make(simulator, agent=3)
    drawn = {env.reset(seed=seed)[0].tobytes() for seed in range(60)}
    assert drawn == {obs.tobytes() for obs in first[agents == 3]}


def test_an_episode_earns_the_learned_reward_and_ends_by_the_learned_end(simulator):
    env = make(simulator, agent=AGENTS - 1)
    obs, _ = env.reset(seed=0, options={"obs": [1.0, 0.0]})
    rewards, terminated = [], False
    for _ in range(simulator.episode_steps):
        obs, reward, terminated, truncated, _ = env.step(1)
        rewards.append(reward)
        assert obs.shape == (2,)
        if terminated or truncated:
            break
    assert terminated and len(rewards) < 20  # the strongest pump overflows soon
    assert rewards[0] == pytest.approx(-0.1, abs=0.15) and rewards[-1] < -0.5


def test_a_vector_row_equals_the_single_environment(simulator):
    batch = gym.make_vec("persim_gym:PersimEnv-v0", num_envs=2, agents=[1, 6], simulator=str(simulator.folder))
    singles = [make(simulator, agent=agent) for agent in (1, 6)]
    obs, _ = batch.reset(seed=[3, 4])
    alone = [env.reset(seed=seed)[0] for env, seed in zip(singles, (3, 4), strict=True)]
    np.testing.assert_array_equal(obs, alone)
    for action in (1, 0, 1):
        obs, reward, *_ = batch.step(np.array([action, 1 - action]))
        each = [env.step(a) for env, a in zip(singles, (action, 1 - action), strict=True)]
        np.testing.assert_allclose(obs, [e[0] for e in each], atol=1e-6)
        np.testing.assert_allclose(reward, [e[1] for e in each], atol=1e-6)


def test_stable_baselines3_sees_observations_alone(simulator):
    env = make_vec_env(simulator=str(simulator.folder), agent=2, n_envs=3)
    assert env.observation_space.shape == (2,) and env.reset().shape == (3, 2)
    assert env.step(np.array([0, 1, 1]))[0].shape == (3, 2)


def test_added_agents_start_as_their_own_logged_episodes(simulator, tanks, tmp_path):
    data = load(tanks)
    last = data.select(data.agent == AGENTS - 1)
    new = replace(last, agent=np.where(last.trajectory > last.trajectory.min(), 3, 9), n_agents=10)
    bigger = simulator.personalize(new)
    bigger.save(tmp_path / "bigger")
    agents, obs = new.starts()
    for agent, own in ((AGENTS, obs[agents == 3]), (AGENTS + 1, obs[agents == 9])):
        env = gym.make("persim_gym:PersimEnv-v0", simulator=str(tmp_path / "bigger"), agent=agent, starts="logged")
        seen = {tuple(env.reset(seed=seed)[0].tolist()) for seed in range(40)}
        assert seen == {tuple(row.tolist()) for row in own}
    known = gym.make("persim_gym:PersimEnv-v0", simulator=str(tmp_path / "bigger"), agent=2)
    np.testing.assert_array_equal(known.reset(seed=1)[0], make(simulator, agent=2).reset(seed=1)[0])


def test_a_planner_uses_the_learned_reward(simulator):
    """From above level 1 the tank has to be drained, from below filled."""
    planner = RandomShooting(candidates=64, horizon=8)
    policy = MPC(simulator.dynamics(5), simulator.task, simulator.action_space, planner=planner)
    assert [int(policy.predict(np.array([level, 0.0]))[0]) for level in (1.5, 0.3)] == [0, 1]


@pytest.fixture
def few_episodes(monkeypatch):
    """Policies are judged and tested by two episodes."""
    for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
        monkeypatch.setattr(policy_training, name, 2)


SMALL_PPO = {"n_steps": 16, "batch_size": 32, "policy_kwargs": {"net_arch": [8]}}


def test_a_policy_is_trained_and_tested_in_the_simulator_alone(simulator, tmp_path, few_episodes):
    training = PolicyTraining(5, "ppo", str(simulator.folder), steps=128, n_envs=4, hyperparameters=SMALL_PPO)
    done = run_training(training, tmp_path, progress=False)
    assert (done.domain, done.true_return, done.true_std) == ("", None, None) and np.isfinite(done.simulator_return)
    assert json.loads((tmp_path / "agent-5.json").read_text())["true_return"] is None
    assert read_policy(tmp_path / "agent-5.json") == done
    with pytest.raises(ValueError, match="agent 5 of simulator .* has no true environment here to train in"):
        run_training(replace(training, truth=True), tmp_path / "true", progress=False)
    with pytest.raises(ValueError, match=r"sac does not fit my/tanks-v0's Discrete\(2\); use one of ppo, dqn"):
        run_training(replace(training, algo="sac"), tmp_path / "sac", progress=False)


def test_a_policy_learns_to_hold_the_level(simulator, tmp_path):
    """The reward is the distance to level 1; random pushes leave it, a trained policy stays near."""
    training = PolicyTraining(5, "ppo", str(simulator.folder), steps=8000, n_envs=16, hyperparameters={"n_steps": 32})
    done = run_training(training, tmp_path, progress=False)
    env = make_vec_env(simulator=str(simulator.folder), agent=5, n_envs=50, seed=0)
    env.reset()
    rng, total = np.random.default_rng(0), np.zeros(50)
    for _ in range(simulator.episode_steps):
        total += env.step(rng.integers(2, size=50))[1]
    assert done.simulator_return > 0.5 * total.mean()  # both below 0


@pytest.mark.filterwarnings("ignore::tqdm.TqdmExperimentalWarning")
def test_the_command_line_says_that_there_is_no_truth(simulator, tmp_path, few_episodes, capsys, monkeypatch):
    from persim_gym.cli import app

    monkeypatch.setenv("COLUMNS", "200")
    where = [str(simulator.folder), "--out", str(tmp_path / "out")]
    app(["train-policy", "--agent", "2", "--steps", "64", "--n-envs", "4", *where], standalone_mode=False)
    text = capsys.readouterr().out
    assert "no true environment is known here (-): tested only in" in text and (tmp_path / "out/agent-2.json").exists()
    with pytest.raises(ValueError, match="no true environment to film, and nothing that draws its observations"):
        film(2, str(simulator.folder), tmp_path / "a.gif")


# --- the user's own task ------------------------------------------------------------------------------------------


@pytest.fixture
def own_task(monkeypatch):
    """This module's task by reference."""
    monkeypatch.setitem(sys.modules, "my_tasks", sys.modules[__name__])
    return "my_tasks:tank_task"


def test_a_users_own_task_is_kept_by_reference_and_imported(tanks, own_task, home):
    simulator = train(tanks, name="mine/tanks-v1", task=own_task, epochs=1, holdout=False, progress=False)
    assert simulator.task is tank_task and simulator.model.config.extra_dim == 0
    assert (simulator.card.name, simulator.card.interface["task"]) == ("mine/tanks-v1", own_task)
    obs, reward, *_ = (env := make(simulator, agent=1), env.reset(seed=0), env.step(1))[2]
    assert reward == pytest.approx(-abs(obs[0] - 1))


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("my_tasks", "names no task"),
        ("no_such_module:task", "No module named 'no_such_module'"),
        ("math:task", "has no attribute 'task'"),
        ("math:pi", "is a float, not a persim_gym.task.Task"),
    ],
)
def test_a_task_that_cannot_be_imported_says_why_before_training(tanks, reference, why):
    with pytest.raises(ValueError, match=f"{why}.*write module:name"):
        train(tanks, task=reference, progress=False)
    with pytest.raises(ValueError, match=why):
        task_at(reference)


one_row_task = Task(reward=lambda obs, action, next_obs: -abs(next_obs[0] - 1), terminated=lambda next_obs: False)
two_arguments_task = Task(
    reward=lambda obs, action: 0.0 * obs[..., 0], terminated=lambda next_obs: next_obs[..., 0] > 2
)
rows_task = Task(
    reward=lambda obs, action, next_obs: -abs(next_obs[:, 0] - 1), terminated=lambda next_obs: next_obs[:, 0] > 2
)
counting_task = Task(
    reward=lambda obs, action, next_obs: -abs(next_obs[..., 0]), terminated=lambda next_obs: 1 * (next_obs[..., 0] > 2)
)
log_task = Task(
    reward=lambda obs, action, next_obs: np.where(action == 1, np.inf, 0.0), terminated=lambda obs: obs[..., 0] > 2
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one_row_task", r"gives rewards \(2,\) and ends \(\) of observations \(1000, 2\); it takes arrays"),
        ("rows_task", r"gives rewards \(2, 2\) and ends \(2, 2\) of observations \(2, 1000, 2\); it takes arrays"),
        ("counting_task", r"gives ends of int64, not bool; write a comparison"),
        ("two_arguments_task", "fails on logged transitions .TypeError.*it takes arrays"),
        ("log_task", "gives rewards that are not finite"),
    ],
)
def test_a_task_that_does_not_take_the_data_says_so_before_training(tanks, own_task, home, monkeypatch, name, said):
    monkeypatch.setattr("persim_gym.workflows.hold_out.train_model", lambda *args, **keywords: pytest.fail("trained"))
    for memory in (None, 1e-9):
        with pytest.raises(ValueError, match=f"task 'my_tasks:{name}' {said}"):
            train(tanks, task=f"my_tasks:{name}", memory=memory, progress=False)


# --- any Minari dataset -------------------------------------------------------------------------------------------


def test_the_interface_is_the_datasets(tanks):
    interface = spec_of_dataset(minari.load_dataset(tanks))
    longest = max(len(log["actions"]) for log in all_logs())
    assert (interface.n_actions, interface.episode_steps, interface.bounds) == (2, longest, None)
    assert EnvironmentSpec.from_json(json.loads(json.dumps(interface.to_json()))) == interface


def test_a_dataset_with_dict_observations_and_bounded_actions_trains(tanks, home):
    space = spaces.Dict({"a": spaces.Box(0, 1, (2,), np.float32), "b": spaces.Box(-1, 1, (1,), np.float32)})
    rng = np.random.default_rng(0)
    buffers = [
        EpisodeBuffer(
            observations={"a": rng.random((21, 2)).astype("f"), "b": rng.uniform(-1, 1, (21, 1)).astype("f")},
            actions=rng.uniform(-1, 1, (20, 1, 2)).astype("f"),
            rewards=rng.random(20),
            terminations=np.zeros(20, dtype=bool),
            truncations=np.arange(20) == 19,
            options={"agent": n},
        )
        for n in range(3)
    ]
    action = spaces.Box(-1, 1, (1, 2), np.float32)
    minari.create_dataset_from_buffers("boxes-v0", buffers, observation_space=space, action_space=action)
    simulator = train("boxes-v0", progress=False)
    assert simulator.observation_space == spaces.Box(np.array([0, 0, -1], "f"), np.array([1, 1, 1], "f"))
    assert simulator.action_space == spaces.Box(-1, 1, (2,), np.float32)
    far = simulator.dynamics(0)(np.full((1, 3), 50.0), np.zeros((1, 2)))[..., :3]
    assert simulator.observation_space.contains(far[0, 0])  # the truth lies in the space, so predictions may
    assert "boxes-v0" in load_simulator("boxes-v0").card.dataset
    check_env(make(simulator).unwrapped, skip_render_check=True)


def test_an_agent_that_is_no_number_is_refused_with_its_episode(tanks):
    buffers = [EpisodeBuffer(**tank_logs()[0], options={"agent": "pump"})]
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    minari.create_dataset_from_buffers("named-v0", buffers, observation_space=box, action_space=spaces.Discrete(2))
    with pytest.raises(ValueError, match="named-v0: agent 'pump' of episode 0 is no whole number; number them from 0"):
        load("named-v0")


def test_one_transition_of_one_agent_trains(tanks, home, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    one = {key: lambda x, n=n: x[:n] for key, n in (("observations", 2), ("actions", 1), ("rewards", 1))}
    last = {"terminations": lambda x: x[:1], "truncations": lambda x: np.ones(1, dtype=bool)}
    simulator = train(tanks_of("one-v0", [0], **one, **last), epochs=2, progress=False)
    data = load("one-v0")
    assert len(data) == 1
    predicted = simulator.dynamics(0)(data.obs, data.action)[..., :2].mean(axis=0)
    np.testing.assert_allclose(predicted, data.next_obs, atol=1e-5)


def test_actions_that_do_not_count_from_zero_are_refused(tanks):
    with pytest.raises(ValueError, match="must count from 0, not 1; subtract it"):
        EnvironmentSpec(spaces.Box(-1, 1, (2,)), spaces.Discrete(3, start=1), 5)


def test_data_that_do_not_fit_into_memory_give_the_same_dataset_on_disk(tanks, home):
    dataset = open_dataset(tanks)
    in_memory, on_disk = load_for_training(dataset), load_for_training(dataset, memory=1.0)
    everything = on_disk.sample(10**6)
    for name in ("agent", "obs", "action", "reward", "next_obs", "terminated", "trajectory"):
        np.testing.assert_array_equal(getattr(everything, name), getattr(in_memory, name), err_msg=name)
    before = (on_disk.folder / "rows.f32").stat().st_mtime_ns
    assert load_for_training(dataset, memory=1.0).content_hash() == on_disk.content_hash()
    assert (on_disk.folder / "rows.f32").stat().st_mtime_ns == before  # written once


# --- the card -----------------------------------------------------------------------------------------------------


def test_the_card_for_people_says_what_the_card_says(simulator, tanks, home):
    licensed = (train(tanks, epochs=1, license="CC-BY-4.0", progress=False).folder / README).read_text()
    text = (simulator.folder / README).read_text()
    card = simulator.card
    for part in ("# Simulator my/tanks-v0", "| agents | 8 |", "learned", card.sha256[:16], "| licence | not stated |"):
        assert part in text
    assert "| licence | CC-BY-4.0 |" in licensed
    assert f"| reward | {card.error['one_step_rmse'][2]:.4g} |" in text


def test_the_error_profile_is_the_models_error(simulator, tanks):
    data = load(tanks)
    columns = [torch.from_numpy(v) for v in (data.agent, data.obs, data.action)]
    predicted = simulator.model.predict(*columns).double().mean(dim=0).numpy()
    target = np.column_stack([data.next_obs, data.reward, data.terminated])
    profile = simulator.card.error
    rmse = np.sqrt(np.square(predicted - target).mean(axis=0))
    np.testing.assert_allclose(profile["one_step_rmse"], rmse, rtol=1e-3)
    assert profile["columns"] == ["observation 0", "observation 1", "reward", "terminated"]
    assert profile["steps"] == [1, 5, 10, 20, 50] and profile["open_loop"][0] < profile["open_loop"][-1]


@pytest.mark.parametrize(
    "change",
    [{"action": {"n": 3}}, {"task": "math:pi"}, {"observation": {"low": [0], "high": [1], "shape": [1]}}],
    ids=str,
)
def test_an_interface_that_does_not_fit_the_model_is_refused(simulator, tmp_path, change):
    import shutil

    folder = shutil.copytree(simulator.folder, tmp_path / "copy")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, "interface": card["interface"] | change}))
    with pytest.raises(ValueError, match="spaces and task on card.json do not fit its model"):
        load_simulator(str(folder))


@pytest.mark.parametrize("missing", ["action", "episode_steps", "task"])
def test_an_interface_without_a_key_is_refused(simulator, tmp_path, missing):
    import shutil

    folder = shutil.copytree(simulator.folder, tmp_path / "copy")
    card = json.loads((folder / CARD).read_text())
    del card["interface"][missing]
    (folder / CARD).write_text(json.dumps(card))
    with pytest.raises(ValueError, match="interface on the card is not one of this version"):
        load_simulator(str(folder))


def test_the_command_line_trains_and_evaluates_it(tanks, home, capsys, monkeypatch):
    from persim_gym.cli import app

    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (["train", tanks, "--epochs", "1", "--no-holdout"], ["evaluate", tanks]):
        app(arguments, standalone_mode=False)
    text = capsys.readouterr().out
    assert str(home / "simulators" / "my" / "tanks-v0") in text
    assert "reward, one step" in text and "50 open-loop steps" in text


# --- the page -----------------------------------------------------------------------------------------------------


def test_the_ten_lines_of_the_page_run(tanks, home, monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[0]
    statements = [line for line in code.splitlines() if line and not line.startswith((" ", ")", "import", "from"))]
    assert len(statements) <= 10
    names = {"my_logs": tank_logs()}
    exec(code, names)
    obs, _ = names["env"].reset(seed=0)
    assert names["env"].unwrapped.agent == 3 and obs.shape == (2,)
    assert np.isfinite(names["env"].step(1)[1])


def test_an_error_that_is_not_finite_is_left_out_of_the_card(tanks):
    from persim_gym.simulator.diagnostics.metrics import logged_error
    from persim_gym.simulator.model.ensemble import FactoredEnsemble
    from persim_gym.simulator.model_card import four_digits

    data = load(tanks)
    model = fit_ensemble(data, replace(QUICK, epochs=1), n_actions=2, progress=False)
    with torch.no_grad():
        model.state_encoder.layers[1].weight.mul_(1e20)
    assert isinstance(model, FactoredEnsemble)
    with np.errstate(all="ignore"):
        profile = logged_error(model, data)
    assert None in profile["open_loop"] and json.loads(json.dumps(profile, allow_nan=False)) == profile
    assert four_digits(None) == "" and four_digits(0.12345) == "0.1235"
