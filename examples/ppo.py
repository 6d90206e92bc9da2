"""Trains PPO inside the learned simulator of one agent and tests it on the real one.

For every domain.

A simulator that is not bundled is trained first: persim train pendulum/random-v0
"""

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from persim_gym.sb3 import make_vec_env


def main(arguments: argparse.Namespace) -> float:
    env = make_vec_env(agent=arguments.agent, n_envs=32, simulator=arguments.simulator, member="random")
    domain = env.get_attr("domain", 0)[0]
    model = PPO(
        "MlpPolicy", env, seed=0, device="cpu",
        n_steps=64, batch_size=256, learning_rate=1e-3,
    )  # fmt: skip
    model.learn(arguments.steps)
    truth = Monitor(gym.make(domain.env_id, agent=arguments.agent))  # never trained in
    mean, std = evaluate_policy(model, truth, n_eval_episodes=arguments.episodes)
    print(f"return on the real agent {arguments.agent}: {mean:.1f} ± {std:.1f}")
    return mean


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulator", default="cartpole/random-v0", help="name or path (default: %(default)s)")
    parser.add_argument("--agent", type=int, default=2, help="agent (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="real episodes of the test (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main(options().parse_args())
