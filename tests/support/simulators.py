"""Simulators that were not trained."""

from gymnasium import spaces

from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import save_simulator
from persim_gym.spec import LEARNED_TASK, EnvironmentSpec, finite_box


def own_simulator(folder, domain, n_agents=4):
    """A simulator with learned reward and termination; the reward is the first observation."""
    shape = ModelConfig(n_agents, 4, 2, 0, 3, 1, (8,), extra_dim=2)
    return save_simulator(
        FactoredEnsemble(shape, seed=1),
        name="my/poles-v0",
        domain=domain,
        dataset="",
        dataset_hash="",
        transitions=1,
        recipe_name="",
        recipe={},
        seed=0,
        training_seconds=0.0,
        folder=folder,
        interface=EnvironmentSpec(finite_box([-5.0] * 4, [5.0] * 4), spaces.Discrete(2), 20, LEARNED_TASK),
    )
