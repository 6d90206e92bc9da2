"""Minari datasets: one logged episode an agent."""

from persim_gym.datasets.load import load, load_minari
from persim_gym.datasets.recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "load", "load_minari"]
