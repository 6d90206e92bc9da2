"""Policies that were trained in a simulator of data of no domain, beside other ways to act in it."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from persim_gym.models import load_learned
from persim_gym.policies import TrainedPolicy
from persim_gym.policies.train import load_policy
from persim_gym.workflows.own.returns import Returns, own_data, own_returns_table, references, simulated_returns
from persim_gym.workflows.plan import stream_of

COMPARED_EPISODES = 50
"""Episodes of each way to act."""


def own_policies_table(trained: Sequence[TrainedPolicy], out: str | Path, seed: int = 0) -> Table:
    """Returns of policies, of other ways to act from the same first observations, and those that were logged.

    Args:
        trained: Policies of agents of one simulator.
        out: Folder that they are in.
        seed: Seed of first observations.
    """
    simulator = trained[0].training.simulator
    known, data = load_learned(simulator), own_data(simulator)
    rows, names = list[tuple[int, str, Returns]](), dict[int, str]()
    for t in trained:
        agent, environment = t.training.agent, t.training.environment
        seeds = [stream_of(seed + 1, agent, episode) for episode in range(COMPARED_EPISODES)]
        policy = load_policy(Path(out) / f"agent-{agent}.json")
        asked = {**environment, "starts": "logged"}
        rows.append((agent, t.training.algo, simulated_returns(policy, simulator, agent, seeds, **asked)))
        rows += [(agent, what, found) for what, found in references(simulator, data, agent, seeds, **asked).items()]
        names[agent] = known.agent_name(agent)
    return own_returns_table(f"{simulator}, {COMPARED_EPISODES} episodes from the same starts", names, rows)
