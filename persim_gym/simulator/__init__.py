"""The learned simulator of all agents: model, training, files."""

from persim_gym.simulator.card import list_simulators, load_simulator
from persim_gym.simulator.dynamics import AgentDynamics
from persim_gym.simulator.model import FactoredEnsemble
from persim_gym.simulator.recipe import TrainingRecipe, recipe_for
from persim_gym.simulator.shape import ModelShape
from persim_gym.simulator.simulator import Simulator

__all__ = [
    "AgentDynamics",
    "FactoredEnsemble",
    "ModelShape",
    "Simulator",
    "TrainingRecipe",
    "list_simulators",
    "load_simulator",
    "recipe_for",
]
