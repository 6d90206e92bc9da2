"""Trains one PPO policy for many agents at once, told who it is by the learned latent factor, and tests it on each."""

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from persim_gym import load_simulator
from persim_gym.sb3 import make_vec_env
from persim_gym.wrappers import AgentObservation, AgentVecEnv, latent_factors


def main(arguments: argparse.Namespace) -> dict[int, float]:
    simulator = load_simulator(arguments.simulator)
    factors = latent_factors(simulator)
    agents = [5 + i % (len(factors) - 5) for i in range(arguments.rows)]  # none of the agents that it is tested on
    env = AgentVecEnv(make_vec_env(agents=agents, n_envs=len(agents), simulator=arguments.simulator), factors, agents)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=1024, learning_rate=1e-3, seed=0, device="cpu")
    model.learn(arguments.steps)
    domain = env.get_attr("domain", 0)[0]
    returns = {}
    for agent in range(5):
        truth = AgentObservation(gym.make(domain.env_id, agent=agent), factors, agent)
        returns[agent], _ = evaluate_policy(model, Monitor(truth), n_eval_episodes=arguments.episodes)
        print(f"return on the real agent {agent}: {returns[agent]:.1f}")
    return returns


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulator", default="cartpole/random-v0", help="name or path (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=495, help="agents stepped at once (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=400_000, help="environment steps (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=20, help="real episodes an agent (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main(options().parse_args())
