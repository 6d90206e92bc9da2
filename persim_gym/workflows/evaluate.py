"""`persim evaluate` and `persim_gym.evaluate`: error against the true environment, or on data that were held out."""

from collections.abc import Iterable
from pathlib import Path

from persim_gym.datasets.behavior.rules import policy_of_agent
from persim_gym.envs.hetero import domain_of
from persim_gym.evaluation.acting import Policy
from persim_gym.evaluation.figures import bands_figure
from persim_gym.evaluation.horizons import BY_HORIZON, HorizonReport
from persim_gym.evaluation.prediction import PredictionError, prediction_error
from persim_gym.evaluation.traces import TRACES, read_traces
from persim_gym.models import LearnedModel, load_learned
from persim_gym.simulator.simulator import Simulator


def evaluate(
    simulator: str | Path | LearnedModel,
    agents: Iterable[int] = range(5),
    *,
    policy: Policy | None = None,
    episodes: int = 200,
    seed: int = 0,
) -> dict[int, PredictionError] | HorizonReport:
    """Tells how well a simulator predicts without correction.

    Of one of our domains that is measured now, against the true environment, as the thesis does. Of other data there is
    none: what was measured when the simulator was trained, on data that were held out, is read from its card.

    Args:
        simulator: A simulator, or its name or path.
        agents: Agents of the population; 0-4 are the thesis's test agents.
        policy: Acts in the true environment; None for the domain's test policy, or for its rule.
        episodes: Episodes an agent.
        seed: Seed of the initial states.

    Returns:
        The error of each agent; or the errors by horizon that the card holds, which take the other arguments into no
        account.

    Raises:
        ValueError: If there is neither a true environment nor such errors on the card, or an agent is unknown.

    Source: thesis appendix B.1.
    """
    loaded = load_learned(simulator) if isinstance(simulator, str | Path) else simulator
    return true_errors(loaded, agents, policy, episodes, seed) if loaded.card.domain else horizon_report(loaded)


def true_errors(
    loaded: LearnedModel,
    agents: Iterable[int] = range(5),
    policy: Policy | None = None,
    episodes: int = 200,
    seed: int = 0,
) -> dict[int, PredictionError]:
    """Open-loop prediction error against the true environment, of each agent; arguments and errors as `evaluate`."""
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


def horizon_report(loaded: LearnedModel) -> HorizonReport:
    """Errors by horizon on data that were held out, as the card of a simulator of no domain holds them.

    Raises:
        ValueError: If it holds none.
    """
    stored = loaded.card.error.get(BY_HORIZON) if isinstance(loaded, Simulator) else None
    if stored is None:
        raise ValueError(
            f"simulator {loaded.card.name} is of data of no domain here: there is no true environment to compare it "
            "with, and its card holds no errors on data that were held out; `persim train` measures these, of enough "
            "data and without --no-holdout"
        )
    return HorizonReport.from_json(stored)


def plot_held_out(loaded: LearnedModel, path: Path) -> None:
    """Draws what was predicted of the median and the worst agent, with bands, against what was logged and held out.

    Args:
        loaded: A simulator of no domain.
        path: The file.

    Raises:
        ValueError: As `read_traces`.
    """
    bands_figure(read_traces(loaded.folder / TRACES), loaded.card.name, path)
