"""Other people's tools work on the environments: TorchRL, RL-Zoo, Gymnasium's wrappers, Minari's recording, workers."""

import argparse
import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordEpisodeStatistics, RecordVideo, TimeAwareObservation
from gymnasium.wrappers import vector as vector_wrappers

from persim_gym.sb3 import make_vec_env

ENV = "persim_gym:PersimEnv-v0"
ABOUT = {
    "algorithm_name": "a",
    "author": "a",
    "author_email": "a@a.org",
    "code_permalink": "https://a.org",
    "eval_env": "PersimEnv-v0",
    "description": "a",
}


def test_torchrl_takes_it():
    envs = pytest.importorskip("torchrl.envs")
    from torchrl.envs.utils import check_env_specs

    env = envs.GymEnv(ENV, agent=17)
    check_env_specs(env)
    rollout = env.rollout(6)
    obs, _ = gym.make(ENV, agent=17).reset(seed=3)
    assert rollout["observation"].shape == (6, *obs.shape) and (rollout["next", "reward"] == -1).all()


@pytest.mark.parametrize("reader", ["automatic", "by name"])
def test_torchrl_reads_infos(reader):
    envs, collectors = pytest.importorskip("torchrl.envs"), pytest.importorskip("torchrl.collectors")
    from torchrl.data import Unbounded

    env = envs.GymEnv(ENV, agent=2, simulator="cartpole/random-v0")
    if reader == "automatic":
        env = env.auto_register_info_dict()
    else:
        specs = [Unbounded((), dtype=torch.float64)] * 2
        env.set_info_dict_reader(envs.default_info_dict_reader(["disagreement", "halt"], specs))
    collector = collectors.Collector(env, None, frames_per_batch=60, total_frames=60)
    batch = next(iter(collector))
    collector.shutdown()
    after = batch["next"]
    assert after["done"].any()  # episodes of 18 N pushes are short: resets are among them
    assert (after["disagreement"] > 0).all() and not after["halt"].any()
    first = torch.cat([torch.tensor([True]), after["done"][:-1, 0]])
    assert (batch["disagreement"][first] == 0).all() and (batch["disagreement"][~first] > 0).all()


def test_rl_zoo_reads_hyperparameters_of_the_id_and_trains(tmp_path):
    manager = pytest.importorskip("rl_zoo3.exp_manager")
    config = tmp_path / "hyper.yml"
    config.write_text(
        "PersimEnv-v0:\n  n_envs: 2\n  n_timesteps: 64\n  policy: MlpPolicy\n  n_steps: 16\n  batch_size: 8\n"
    )
    experiment = manager.ExperimentManager(
        argparse.Namespace(), "ppo", "PersimEnv-v0", str(tmp_path), config=str(config), env_kwargs={"agent": 17},
        eval_freq=-1, save_freq=-1, log_interval=-1, verbose=0, seed=0, device="cpu",
    )  # fmt: skip
    model, _ = experiment.setup_experiment()
    assert (model.n_steps, model.batch_size, model.n_envs) == (16, 8, 2)
    assert model.env.get_attr("agent") == [17, 17]
    experiment.learn(model)
    assert model.num_timesteps == 64


def test_gymnasium_records_statistics_of_one_and_of_many():
    env = RecordEpisodeStatistics(TimeAwareObservation(gym.make(ENV, agent=17, max_episode_steps=5)))
    env.reset(seed=0)
    infos = [env.step(1)[4] for _ in range(5)]
    assert infos[-1]["episode"]["r"] == -5 and infos[-1]["episode"]["l"] == 5
    rows = vector_wrappers.RecordEpisodeStatistics(gym.make_vec(ENV, num_envs=3, agents=[1, 2, 3], max_episode_steps=4))
    rows.reset(seed=0)
    infos = [rows.step(np.array([1, 1, 1]))[4] for _ in range(4)]
    np.testing.assert_array_equal(infos[-1]["episode"]["r"], [-4, -4, -4])


def test_gymnasiums_vector_wrappers_apply():
    rows = gym.make_vec(ENV, num_envs=3, agents=[1, 2, 3])
    scaled = vector_wrappers.RescaleObservation(rows, -1, 1)
    obs, _ = scaled.reset(seed=0)
    low, high = rows.single_observation_space.low, rows.single_observation_space.high
    raw, _ = gym.make_vec(ENV, num_envs=3, agents=[1, 2, 3]).reset(seed=0)
    np.testing.assert_allclose(obs, 2 * (raw - low) / (high - low) - 1, atol=1e-6)


def test_gymnasium_records_videos_of_one_and_of_many(tmp_path):
    pytest.importorskip("moviepy")
    env = RecordVideo(gym.make(ENV, agent=17, render_mode="rgb_array", max_episode_steps=3), str(tmp_path / "one"))
    rows = gym.make_vec(ENV, num_envs=2, agents=[1, 2], render_mode="rgb_array", max_episode_steps=3)
    many = vector_wrappers.RecordVideo(rows, str(tmp_path / "many"), episode_trigger=lambda e: e == 0)
    env.reset(seed=0)
    many.reset(seed=0)
    for _ in range(3):
        env.step(1)
        many.step(np.array([1, 1]))
    env.close()
    many.close()
    for folder in ("one", "many"):
        assert [p.suffix for p in (tmp_path / folder).iterdir()] == [".mp4"]


@pytest.fixture
def minari_home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # Minari's scratch folder
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_minari_records_a_dataset_inside_the_simulator(minari_home):
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax")
    env = minari.DataCollector(gym.make(ENV, agent=17, max_episode_steps=6), data_format="hdf5")
    for seed in range(2):
        env.reset(seed=seed)
        for _ in range(6):
            env.step(env.action_space.sample())
    env.create_dataset("test/inside-v0", **ABOUT)
    env.close()
    dataset = minari.load_dataset("test/inside-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 12)
    episode = dataset[1]
    again = dataset.recover_environment()
    np.testing.assert_array_equal(again.reset(seed=1)[0], episode.observations[0])
    for action, obs in zip(episode.actions, episode.observations[1:], strict=True):
        np.testing.assert_allclose(again.step(action)[0], obs, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # Minari's scratch folder
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_minari_records_infos_of_an_episode_that_halts(minari_home, data_format):
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax")
    if data_format == "arrow":
        pytest.importorskip("pyarrow")
    plain = gym.make(ENV, agent=17)
    plain.reset(seed=0)
    spread = np.array([plain.step(2)[4]["disagreement"] for _ in range(20)])
    halt = float(np.median(spread))
    length = int((spread > halt).argmax()) + 1
    env = minari.DataCollector(gym.make(ENV, agent=17, halt=halt), data_format=data_format, record_infos=True)
    env.reset(seed=0)
    assert [env.step(2)[3] for _ in range(length)] == [False] * (length - 1) + [True]
    env.create_dataset("test/infos-v0", **ABOUT)
    env.close()
    infos = minari.load_dataset("test/infos-v0")[0].infos
    np.testing.assert_array_equal(infos["disagreement"], [0, *spread[:length]])
    np.testing.assert_array_equal(infos["halt"], [False] * length + [True])


def test_a_minari_dataset_is_made_of_buffers_from_inside_the_simulator(minari_home):
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env = gym.make(ENV, agent=17, max_episode_steps=4)
    obs = [env.reset(seed=0)[0]]
    steps = [env.step(2) for _ in range(4)]
    buffer = EpisodeBuffer(
        observations=np.array([*obs, *(s[0] for s in steps)]),
        actions=np.full(4, 2),
        rewards=np.array([s[1] for s in steps]),
        terminations=np.array([s[2] for s in steps]),
        truncations=np.array([s[3] for s in steps]),
    )
    minari.create_dataset_from_buffers("test/buffers-v0", [buffer], env=env, data_format="hdf5", **ABOUT)
    dataset = minari.load_dataset("test/buffers-v0")
    np.testing.assert_array_equal(dataset[0].observations[-1], steps[-1][0])
    assert dataset.recover_environment().unwrapped.agent == 17


# --- copies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["copy", "pickle"])
@pytest.mark.parametrize("kind", ["vector", "sb3"])
def test_a_copy_of_many_rows_goes_on_by_itself(kind, duplicate):
    if kind == "vector":
        env = gym.make_vec(ENV, num_envs=3, agents=[1, 2, 3], member="random", render_mode="rgb_array")
        env.reset(seed=0)
    else:
        env = make_vec_env(agents=[1, 2, 3], n_envs=3, member="random", seed=0, render_mode="rgb_array")
        env.reset()
    env.render()
    other = duplicate(env)
    for _ in range(3):
        for mine, theirs in zip(env.step(np.array([0, 1, 2]))[:3], other.step(np.array([0, 1, 2]))[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(np.array(env.render()), np.array(other.render()))


# --- a million steps ------------------------------------------------------------------------------------------------


def resident() -> float:
    """Resident memory of this process, MB."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["single", "batched"])
@pytest.mark.parametrize("simulator", ["mountaincar/random-v0", "cartpole/random-v0"])
def test_a_million_random_steps_leak_nothing_and_stay_finite(simulator, kind):
    rng, sizes = np.random.default_rng(0), []
    if kind == "single":
        env = gym.make(ENV, agent=2, simulator=simulator, member="random").unwrapped
        env.reset(seed=0)
        actions = rng.integers(env.action_space.n, size=10_000)
        for _ in range(100):
            for action in actions:
                obs, reward, terminated, truncated, info = env.step(action)
                if not np.isfinite(reward + info["disagreement"] + obs.sum()):
                    assert info["halt"] and truncated and np.isfinite(obs).all() and np.isfinite(reward)
                if terminated or truncated:
                    env.reset()
            sizes.append(resident())
    else:
        rows = gym.make_vec(ENV, num_envs=1000, agents=list(range(500)) * 2, simulator=simulator, member="random")
        rows.reset(seed=0)
        for _ in range(1000):
            obs, reward, _, truncated, info = rows.step(rng.integers(rows.single_action_space.n, size=1000))
            assert np.isfinite(obs).all() and np.isfinite(reward).all()
            assert (np.isfinite(info["disagreement"]) | truncated | ~info["_disagreement"]).all()
            sizes.append(resident())
    assert max(sizes) < 1.05 * sizes[len(sizes) // 10], (sizes[0], max(sizes))
