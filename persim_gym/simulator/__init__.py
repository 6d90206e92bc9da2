"""The learned simulator of all agents: model, training, files."""

from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import list_simulators, load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.recipe import TrainingRecipe

__all__ = [
    "AgentDynamics",
    "FactoredEnsemble",
    "ModelConfig",
    "Simulator",
    "TrainingRecipe",
    "list_simulators",
    "load_simulator",
]
