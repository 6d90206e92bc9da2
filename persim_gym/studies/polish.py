"""What the closed-form polish of learned factors does to the open-loop error."""

import numpy as np

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.registry import load_simulator


def measure_polish(simulator: str, agents: int, episodes: int) -> str:
    """Markdown rows of a simulator's errors before and after: agents 0–4, and the geometric mean of the others.

    Args:
        simulator: Name or path of a simulator trained without the polish, and without rounds of it (`refine`).
        agents: Number of agents, more than 5.
        episodes: Episodes an agent.

    Raises:
        ValueError: If there are too few agents.
    """
    first = len(TEST_AGENTS)
    if agents <= first:
        raise ValueError(f"agents={agents}; the study needs more than the {first} test agents")
    loaded = load_simulator(simulator)
    data = load(loaded.card.dataset, progress=False)
    domain, policy = DOMAINS[loaded.card.domain], load_behavior_policy(loaded.card.domain, TEST)
    lines = []
    models = {"trained": loaded.model, "polished": polished(loaded.model, factor_posterior(loaded.model, data))}
    for label, model in models.items():
        rmse = [
            prediction_error(bind_agent(model, a), domain, a, policy, episodes=episodes).mean_rmse
            for a in range(agents)
        ]
        cells = " | ".join(f"{x:.4f}" for x in rmse[:first])
        others = np.exp(np.mean(np.log(rmse[first:])))
        lines.append(f"| {loaded.card.name} | {label} | {cells} | {others:.5f} |")
    return "\n".join(lines)
