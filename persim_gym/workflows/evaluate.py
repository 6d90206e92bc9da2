"""`persim evaluate` and `persim_gym.evaluate`: prediction error against the true environment."""

from collections.abc import Iterable
from pathlib import Path

from persim_gym.datasets.behavior.rules import policy_of_agent
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.prediction import PredictionError, prediction_error
from persim_gym.models import LearnedModel, load_learned


def evaluate(
    simulator: str | Path | LearnedModel,
    agents: Iterable[int] = range(5),
    *,
    policy: Policy | None = None,
    episodes: int = 200,
    seed: int = 0,
) -> dict[int, PredictionError]:
    """Measures open-loop prediction error against the true environment, as the thesis does.

    Args:
        simulator: A simulator of one of our domains, or its name or path.
        agents: Agents of the population; 0-4 are the thesis's test agents.
        policy: Acts in the true environment; None for the domain's test policy, or for its rule.
        episodes: Episodes an agent.
        seed: Seed of the initial states.

    Returns:
        The error of each agent.

    Raises:
        ValueError: If the simulator is of no domain, so that there is no truth to compare with, or an agent is unknown.

    Source: thesis appendix B.1.
    """
    loaded = load_learned(simulator) if isinstance(simulator, str | Path) else simulator
    if not loaded.card.domain:
        raise ValueError(
            f"simulator {loaded.card.name} is of data of no domain here: there is no true environment to compare it "
            "with; its card holds its error on logged data, simulator.card.error"
        )
    if isinstance(agents, str | int) or episodes < 1:
        raise ValueError(f"agents are several numbers, not {agents!r}, and episodes at least 1, not {episodes!r}")
    domain = domain_of(loaded.card.domain)

    layout = loaded.spec.own_layout

    def error_of(agent: int) -> PredictionError:
        acting = policy_of_agent(domain, agent, seed) if policy is None else policy
        return prediction_error(
            loaded.dynamics(agent), domain, agent, acting, episodes=episodes, seed=seed, layout=layout
        )

    return {agent: error_of(agent) for agent in agents}
