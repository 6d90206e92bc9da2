"""Updates a second of the offline baselines: `python benchmarks/offline_baselines.py [threads]`.

On the shapes of CartPole (discrete) and HalfCheetah (continuous), on random transitions; the best of five rounds, of
the wall clock and of the processor's time, which other processes do not lengthen as much.
"""

import sys
import time

import numpy as np
import torch
from gymnasium.spaces import flatdim

from persim_gym.baselines.offline import Replay, run_updates
from persim_gym.baselines.registry import BASELINES, settings_of
from persim_gym.envs import DOMAINS
from persim_gym.envs.spaces import random_actions
from persim_gym.spec import EnvironmentSpec
from persim_gym.transitions import Transitions

ROUNDS = 5
UPDATES = {"cartpole": 1000, "halfcheetah": 100}


def random_transitions(spec: EnvironmentSpec, number: int = 50_000) -> Transitions:
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, number, flatdim(spec.observation_space)))
    action, zeros = random_actions(spec.action_space, rng, number), np.zeros(number, dtype=np.int64)
    return Transitions(zeros, obs, action, rng.normal(size=number), next_obs, zeros > 0, zeros, 1)


def main(threads: int) -> None:
    torch.set_num_threads(threads)
    print(f"{threads} thread(s)         updates a second of the wall clock, of processor time")
    for title, updates in UPDATES.items():
        domain = DOMAINS[title]
        spec = EnvironmentSpec(domain.observation_space, domain.action_space, domain.episode_steps)
        replay = Replay(random_transitions(spec), spec.action_space)
        for name in ("bcq-p", "bc", "iql"):
            settings = settings_of(name, spec, iterations=updates)
            sizes = flatdim(spec.observation_space), flatdim(spec.action_space)
            learner = BASELINES[name].algorithm(spec).learner(*sizes, settings, torch.Generator().manual_seed(0))
            rates = []
            for _ in range(ROUNDS):
                wall, processor = time.perf_counter(), time.process_time()
                run_updates(learner, replay, settings, name=name, progress=False)
                rates.append((updates / (time.perf_counter() - wall), updates / (time.process_time() - processor)))
            wall_rate, processor_rate = np.max(rates, axis=0)
            print(f"{title:12} {name:6} batch {settings.batch:4d} {wall_rate:10.0f} {processor_rate:10.0f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
