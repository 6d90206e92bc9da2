"""The thesis's cells by our names, and which of them are wrong or misprinted."""

from dataclasses import dataclass

from persim_gym.evaluation.published import TEST_AGENTS, PublishedCell, published_cell
from persim_gym.reproduce.protocol import BESIDE, METHODS, NO_DATA, Table
from persim_gym.reproduce.results import ALL_AGENTS

THESIS_METRICS = {
    "rmse": "rmse_50step_mean",
    "r2": "r2_50step_median",
    "return": "average_reward",
    "logged-return": "observed_reward",
    "logged-length": "trajectory_length",
}
"""Our name of each metric, and its name in the thesis's figures."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong in a table of the thesis.

    Attributes:
        table: Name of the table.
        sentence: What is wrong.
        methods: Rows that it concerns, keys of `METHODS`; none where it concerns no cell, but what stands around them.
        sizes: Numbers of agents in the data, likewise; none for all.
        agents: Columns, from 0.
        spoils_mean: Whether nothing can be compared with the cells' means.
    """

    table: str
    sentence: str
    methods: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    agents: tuple[int, ...] = TEST_AGENTS
    spoils_mean: bool = True


_HEADS = "The thesis heads these columns with MountainCar's gravities; they are read as agents 0-4."
_COPY = "The thesis's row repeats that of its Table B.7, which is of MountainCar."
_TWINS = "The thesis's rows of PerSim and Unfactorized differ in one digit: one of them is a copy."
_DIFFER = "The thesis's Tables 5.3 and B.10 print different figures of this row."
_FOREIGN_STD = "The thesis's ± 0.41 is that of the first cell of its Table B.10, which is of MountainCar."
_TOO_FAST = "Over 36,000 in 1,000 steps is 36 m/s and more: the thesis's planner exploits the physics."
_REWARD = "The thesis's text gives +1 at MountainCar's goal; its sums fit 0, and no whole number of cars fits +1."
_LENGTHS = "The thesis's lengths of CartPole are its rewards plus 1, though each step earns 1."
_LABELS = "The thesis calls the data pure-eps-20 and pure-eps-40 Pure-eps-2 and Pure-eps-4 here."

FAULTS = (
    Fault("A.1", _LABELS),
    Fault("A.1", _LENGTHS),
    Fault("A.1", _REWARD),
    Fault("B.6", _TOO_FAST, ("true-mpc",), agents=(1, 2, 4)),
    Fault("B.8", _HEADS),
    Fault("B.8", _COPY, ("persim", "unfactorized"), (100,)),
    Fault("B.9", _HEADS),
    Fault("B.9", _TWINS, ("persim", "unfactorized"), (250,)),
    Fault("B.9", _COPY, ("cadm",), (25,)),
    Fault("B.10", _DIFFER, ("cadm",), (100,)),
    Fault("B.11", _HEADS),
    Fault("B.11", _FOREIGN_STD, ("persim",), (250,), agents=(0,), spoils_mean=False),
    Fault("B.12", _HEADS),
)
"""What is wrong in the thesis's tables, in their order."""


def faults_of(table: Table) -> tuple[Fault, ...]:
    """What is wrong in a table, or in the one whose numbers it repeats."""
    return tuple(fault for fault in FAULTS if fault.table in (table.name, table.source) and _concerns(fault, table))


def _concerns(fault: Fault, table: Table) -> bool:
    """Whether a table repeats any cell that a fault is in."""
    if not fault.methods:
        return fault.table == table.name
    sizes = set(fault.sizes or table.sizes) & set(table.sizes)
    return bool(sizes and set(fault.methods) & set(table.methods) and set(fault.agents) & set(table.agents))


def fault_of(table: Table, method: str, n_agents: int, agent: str) -> Fault | None:
    """What is wrong with a cell, or None.

    Args:
        table: The table.
        method: A key of `METHODS`.
        n_agents: Agents in the data.
        agent: Number of the agent, or "all".
    """
    for fault in faults_of(table):
        sizes, agents = fault.sizes or (n_agents,), [str(number) for number in fault.agents]
        if method in fault.methods and n_agents in sizes and agent in agents:
            return fault
    return None


def thesis_cell(
    table: Table, domain: str, dataset: str, n_agents: int, method: str, agent: str, metric: str
) -> PublishedCell | None:
    """What the thesis prints in a cell, or None where it prints nothing.

    A method that the thesis has not stands beside the one that plans in the same models.

    Args:
        table: The table.
        domain: Name of the domain.
        dataset: Name of the logging policy, or `NO_DATA`.
        n_agents: Agents in the data.
        method: A key of `METHODS`.
        agent: Number of the agent, or "all".
        metric: As `Result.metric`.
    """
    policy = "" if dataset == NO_DATA else dataset
    number = None if agent == ALL_AGENTS else int(agent)
    cell = domain, policy, n_agents, METHODS[BESIDE.get(method, method)], number, THESIS_METRICS[metric]
    return published_cell(table.name, *cell) or published_cell(table.source, *cell)
