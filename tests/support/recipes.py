"""Recipes of trainings that take a second."""

from dataclasses import replace

from persim_gym.simulator.training.recipe import TrainingRecipe

TINY = TrainingRecipe(
    rank=3, state_layers=(16,), members=3, standardize=True, agent_mean=1.0, agent_std=0.3, epochs=8, batch=32
)
RECIPE = replace(TINY, epochs=60, learning_rate=5e-3, schedule="one-cycle", members=2)
