"""Steps a second of the batched true environments beside Gymnasium's own, in one run.

Classic domains, every row with covariates of its own, against Gymnasium's CartPoleVectorEnv; MuJoCo robots against
SyncVectorEnv over Gymnasium's environment of the same robot. Rounds of all environments alternate, so that a busy
machine slows all of them alike; the table shows medians over rounds.

    python benchmarks/environments.py
"""

import argparse
import time
from typing import NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.vector import VectorEnv

import persim_gym  # noqa: F401
from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import thread_count

CLASSIC = ("mountaincar", "cartpole", "pendulum")
ROBOTS = ("halfcheetah", "hopper", "walker2d", "ant", "slimhumanoid")


def hetero(name: str, rows: int) -> VectorEnv:
    """Our environment, its rows spread over the population."""
    return gym.make_vec(DOMAINS[name].env_id, num_envs=rows, agents=np.arange(rows) % 500)


class Speed(NamedTuple):
    """Of each round: environment steps a second, and microseconds of processor time a step (all threads together)."""

    steps_a_second: list[float]
    cpu: list[float]


def measure(envs: dict[str, VectorEnv], steps: int, rounds: int) -> dict[str, Speed]:
    """Speeds of each environment under random actions, resets included."""
    rng = np.random.default_rng(0)
    actions = {}
    for name, env in envs.items():
        env.reset(seed=0)
        space = env.single_action_space
        if isinstance(space, gym.spaces.Discrete):
            actions[name] = rng.integers(0, space.n, (steps, env.num_envs))
        else:
            size = (steps, env.num_envs, *space.shape)
            actions[name] = rng.uniform(space.low, space.high, size).astype(np.float32)
    speeds = {name: Speed([], []) for name in envs}
    for _ in range(rounds):
        for name, env in envs.items():
            total = steps * env.num_envs
            start, start_cpu = time.perf_counter(), time.process_time()
            for action in actions[name]:
                env.step(action)
            speeds[name].steps_a_second.append(total / (time.perf_counter() - start))
            speeds[name].cpu.append((time.process_time() - start_cpu) / total * 1e6)
    return speeds


def report(title: str, baseline: str, speeds: dict[str, Speed]) -> None:
    """Prints the medians of each environment, and the median of its ratio to the baseline, round by round."""
    print(f"\n{title:34}{'steps/s':>12}{'ratio':>8}{'CPU µs/step':>14}")
    for name, speed in speeds.items():
        ratio = np.median(np.array(speed.steps_a_second) / np.array(speeds[baseline].steps_a_second))
        print(f"{name:34}{np.median(speed.steps_a_second):12,.0f}{ratio:8.2f}{np.median(speed.cpu):14.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024, help="rows of the classic domains (default: %(default)s)")
    parser.add_argument("--robots", type=int, default=128, help="rows of the MuJoCo robots (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="alternating rounds (default: %(default)s)")
    arguments = parser.parse_args()
    mujoco.set_mju_user_warning(lambda message: None)  # Gymnasium's files use a deprecated attribute

    print(f"MuJoCo on {thread_count()} threads, all else on one")
    baseline = "Gymnasium CartPoleVectorEnv"
    envs = {baseline: gym.make_vec("CartPole-v1", arguments.rows, vectorization_mode="vector_entry_point")}
    envs |= {DOMAINS[name].env_id: hetero(name, arguments.rows) for name in CLASSIC}
    report(f"{arguments.rows} rows", baseline, measure(envs, 20, arguments.rounds))

    for name in ROBOTS:
        baseline = f"SyncVectorEnv {DOMAINS[name].title.removeprefix('Slim')}-v5"
        sync = gym.make_vec(baseline.split()[1], arguments.robots, vectorization_mode="sync")
        envs = {baseline: sync, DOMAINS[name].env_id: hetero(name, arguments.robots)}
        report(f"{arguments.robots} rows", baseline, measure(envs, 2, arguments.rounds // 5))


if __name__ == "__main__":
    main()
