"""Runs each library that people use environments and datasets with once on ours, and prints a table.

A library that is not installed is said to be so. RLlib and d3rlpy want older versions of Gymnasium than others: give
them an environment of their own, `pip install 'ray[rllib]'` or `pip install d3rlpy` beside this package.

    python benchmarks/clients.py
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

import persim_gym  # noqa: F401
from persim_gym.sb3 import make_vec_env

IDS = [env_id for env_id, spec in gym.registry.items() if str(spec.entry_point).startswith("persim_gym.")]
POLES = {"agent": 17, "simulator": "cartpole/random-v0"}
DATASET = "persim/cartpole/random-v0"
ABOUT = {
    "algorithm_name": "random",
    "author": "benchmarks",
    "author_email": "benchmarks@example.org",
    "code_permalink": "https://example.org",
    "description": "random actions",
}


def gymnasium_checker() -> str:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Said of Gymnasium's own environments too.
        warnings.filterwarnings("ignore", ".*(infinity|symmetric and normalized)")
        for env_id in IDS:
            check_env(gym.make(env_id).unwrapped, skip_render_check=True)
    return f"check_env on {len(IDS)} ids"


def gymnasium_wrappers() -> str:
    from gymnasium import wrappers

    for env_id in IDS:
        env: Any = wrappers.RecordEpisodeStatistics(wrappers.TimeAwareObservation(gym.make(env_id)))
        env = wrappers.NormalizeReward(wrappers.FrameStackObservation(wrappers.NormalizeObservation(env), 3))
        env = wrappers.DtypeObservation(env, np.float64)
        _step(env, 20)
        rows: Any = wrappers.vector.RecordEpisodeStatistics(gym.make_vec(env_id, num_envs=3))
        rows = wrappers.vector.NormalizeObservation(wrappers.vector.ClipReward(rows, -1, 1))
        _step(rows, 20)
    return f"5 wrappers and 3 of rows on {len(IDS)} ids"


def stable_baselines3() -> str:
    from stable_baselines3 import PPO, SAC
    from stable_baselines3.common.env_checker import check_env
    from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*symmetric and normalized")
        for env_id in IDS:
            check_env(gym.make(env_id))
    env = VecNormalize(make_vec_env(n_envs=4, wrapper=VecMonitor, **POLES))
    PPO("MlpPolicy", env, n_steps=32, batch_size=32, device="cpu").learn(256)
    SAC("MlpPolicy", make_vec_env("HeteroPendulum-v0", agent=1, n_envs=2), learning_starts=20, device="cpu").learn(60)
    return f"check_env on {len(IDS)} ids; PPO and SAC on batched rows"


def minari() -> str:
    import minari

    from persim_gym.datasets.load import load_minari

    names = []
    for k, data_format in enumerate(("hdf5", "arrow")):
        env = minari.DataCollector(gym.make("PersimEnv-v0", **POLES), record_infos=True, data_format=data_format)
        for seed in range(3):
            _step(env, 12, seed=seed)
        names.append(f"clients/poles-{data_format}-v{k}")
        env.create_dataset(names[-1], eval_env="PersimEnv-v0", **ABOUT)
    minari.combine_datasets([minari.load_dataset(name) for name in names[:1] * 2], "clients/combined-v0")
    for name in (*names, "clients/combined-v0"):
        dataset = minari.load_dataset(name)
        assert dataset.env_spec is not None and dataset.env_spec.max_episode_steps == 200
        again, episode = dataset.recover_environment(), dataset[0]
        again.reset(options={"obs": episode.observations[0]})
        for action, obs in zip(episode.actions, episode.observations[1:], strict=True):
            np.testing.assert_allclose(again.step(action)[0], obs, atol=1e-5)
    logged = load_minari(_logged())
    return f"collect, combine, load, replay; {len(logged):,} transitions of {DATASET}"


def torchrl() -> str:
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import check_env_specs

    for env_id in IDS:
        env = GymEnv(env_id, agent=3)
        check_env_specs(env)
        assert env.rollout(10, break_when_any_done=False).shape == (10,)
    told = GymEnv("PersimEnv-v0", **POLES).auto_register_info_dict().rollout(10, break_when_any_done=False)
    assert (told["next", "disagreement"] > 0).all()
    return f"check_env_specs and a rollout on {len(IDS)} ids, infos read"


def rllib() -> str:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    for env_id, keywords in (("PersimEnv-v0", POLES), ("HeteroHalfCheetah-v0", {"agent": 1})):
        config = PPOConfig().environment(f"persim_gym:{env_id}", env_config=keywords)
        runner = SingleAgentEnvRunner(config=config.env_runners(num_env_runners=0, num_envs_per_env_runner=2))
        assert sum(map(len, runner.sample(num_timesteps=40, random_actions=False))) >= 40
        runner.stop()
    return "PPO's sampling in two environments"


def tianshou() -> str:
    from tianshou.algorithm.algorithm_base import RandomActionPolicy
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv

    for env_id in IDS:
        rows = DummyVectorEnv([lambda env_id=env_id: gym.make(env_id, agent=1)] * 2)
        policy = RandomActionPolicy(gym.make(env_id).action_space)
        collector = Collector(policy, rows, VectorReplayBuffer(200, 2))
        collector.reset()
        assert collector.collect(n_step=40, random=True).n_collected_steps == 40
    return f"a collector on {len(IDS)} ids"


def skrl() -> str:
    import torch
    from skrl.envs.wrappers.torch import wrap_env

    for env_id in IDS:
        for env in (gym.make(env_id), gym.make_vec(env_id, num_envs=3)):
            wrapped = wrap_env(env, verbose=False)
            wrapped.reset()
            for _ in range(5):
                actions = [np.ravel(wrapped.action_space.sample()) for _ in range(wrapped.num_envs)]
                obs = wrapped.step(torch.as_tensor(np.stack(actions)))[0]
            assert obs.shape[0] == wrapped.num_envs == getattr(env, "num_envs", 1)
    return f"wrap_env finds {len(IDS)} ids, single and in rows"


def d3rlpy() -> str:
    import d3rlpy

    episodes = list(_logged().iterate_episodes(range(20)))
    data = d3rlpy.dataset.MDPDataset(
        np.concatenate([e.observations[:-1] for e in episodes]),
        np.concatenate([e.actions for e in episodes]),
        np.concatenate([e.rewards for e in episodes]).astype(np.float32),
        np.concatenate([e.terminations for e in episodes]).astype(np.float32),
        np.concatenate([e.truncations for e in episodes]).astype(np.float32),
    )
    learner = d3rlpy.algos.DiscreteCQLConfig(batch_size=32).create(device="cpu:0")
    quiet = d3rlpy.logging.NoopAdapterFactory()
    learner.fit(data, n_steps=20, n_steps_per_epoch=20, show_progress=False, logger_adapter=quiet)
    env = gym.make("PersimEnv-v0", **POLES)
    obs, _ = env.reset(seed=0)
    env.step(int(learner.predict(obs[None])[0]))
    return f"DiscreteCQL on 20 episodes of {DATASET}, acting in PersimEnv"


def rl_zoo3() -> str:
    from rl_zoo3.exp_manager import ExperimentManager

    with tempfile.TemporaryDirectory() as folder:
        hyperparameters = Path(folder) / "hyper.yml"
        hyperparameters.write_text(
            "PersimEnv-v0:\n  n_envs: 2\n  n_timesteps: 64\n  policy: MlpPolicy\n  n_steps: 16\n  batch_size: 8\n"
        )
        experiment = ExperimentManager(
            argparse.Namespace(), "ppo", "PersimEnv-v0", folder, config=str(hyperparameters), env_kwargs=POLES,
            eval_freq=-1, save_freq=-1, log_interval=-1, verbose=0, seed=0, device="cpu",
        )  # fmt: skip
        model, _ = experiment.setup_experiment()
        experiment.learn(model)
    return f"PPO for {model.num_timesteps} steps"


class Client(NamedTuple):
    """A library, and what it is to run.

    Attributes:
        title: Name in the table.
        modules: What has to be installed, the library itself first.
        package: Name of the distribution, whose version is shown.
        run: Runs it, and says what ran.
    """

    title: str
    modules: tuple[str, ...]
    package: str
    run: Callable[[], str]


CLIENTS = [
    Client("Gymnasium, checker", ("gymnasium",), "gymnasium", gymnasium_checker),
    Client("Gymnasium, wrappers", ("gymnasium",), "gymnasium", gymnasium_wrappers),
    Client("Stable-Baselines3", ("stable_baselines3",), "stable-baselines3", stable_baselines3),
    Client("Minari", ("minari", "jax", "pyarrow"), "minari", minari),
    Client("TorchRL", ("torchrl",), "torchrl", torchrl),
    Client("RLlib", ("ray.rllib",), "ray", rllib),
    Client("Tianshou", ("tianshou",), "tianshou", tianshou),
    Client("skrl", ("skrl",), "skrl", skrl),
    Client("d3rlpy", ("d3rlpy",), "d3rlpy", d3rlpy),
    Client("RL-Zoo3", ("rl_zoo3",), "rl-zoo3", rl_zoo3),
]


def installed(client: Client) -> bool:
    """Whether a client can be run here."""
    return all(_is_there(module) for module in client.modules)


def outcome(client: Client) -> str:
    """What a client did, or why not."""
    if not installed(client):
        return "not installed"
    started = time.perf_counter()
    try:
        with redirect_stdout(sys.stderr):  # Some tell much there.
            said = client.run()
    except Exception as error:  # A library may raise anything; the other rows still count.
        return f"ERROR {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return f"ok: {said} ({time.perf_counter() - started:.0f} s)"


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _version(client: Client) -> str:
    try:
        return version(client.package)
    except PackageNotFoundError:
        return ""


def _step(env: Any, steps: int, seed: int = 0) -> None:
    """An episode under random actions, or the beginning of one."""
    env.reset(seed=seed)
    for _ in range(steps):
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        if np.any(terminated) or np.any(truncated):
            return


def _logged() -> Any:
    """One of our datasets, built where it is missing."""
    from minari import load_dataset

    from persim_gym.datasets.load import load

    load(DATASET, progress=False)
    return load_dataset(DATASET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clients", nargs="*", help="titles, such as TorchRL (default: all)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = folder
        print(f"| {'client':20} | {'version':8} | outcome |\n|{'-' * 22}|{'-' * 10}|---|")
        for client in CLIENTS:
            if not arguments.clients or client.title in arguments.clients:
                print(f"| {client.title:20} | {_version(client):8} | {outcome(client)} |", flush=True)


if __name__ == "__main__":
    main()
