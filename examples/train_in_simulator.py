"""Trains DQN inside the learned simulator of agent 17 and tests it on the real agent 17."""

import gymnasium as gym
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

simulator = gym.make("persim_gym:PersimEnv-v0", agent=17)  # learned from logged data
truth = Monitor(gym.make("persim_gym:HeteroMountainCar-v0", agent=17))  # never trained in

model = DQN(
    "MlpPolicy", simulator, learning_rate=4e-3, batch_size=128, train_freq=16,
    gradient_steps=8, target_update_interval=600, exploration_fraction=0.2,
    policy_kwargs={"net_arch": [256, 256]}, seed=0,
)  # fmt: skip
model.learn(40_000)
mean, std = evaluate_policy(model, truth, n_eval_episodes=20)
print(f"return on the real agent 17: {mean:.1f} ± {std:.1f}")
