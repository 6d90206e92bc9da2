"""The thesis's protocol: its methods, tables and sizes, each with its page, and the cells that they are made of."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import product

from persim_gym.datasets.registry import EPSILONS, THESIS_DOMAINS
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.reproduce.results import ALL_AGENTS

METHODS = {
    "persim": "PerSim",
    "persim-cem": "PerSim + CEM",
    "unfactorized": "Unfactorized",
    "unpersonalized": "Unpersonalized",
    "cadm": "Vanilla CaDM",
    "pe-ts-cadm": "PE-TS CaDM",
    "bcq-p": "BCQ-P",
    "bcq-a": "BCQ-A",
    "true-mpc": "True env + MPC",
    "logging": "logging policy",
}
"""Our name of each method, and the thesis's; in the order of its tables."""
BESIDE = {"persim-cem": "persim"}
"""Methods that the thesis has not: the one of the thesis that plans in the same models, and that they stand beside."""
PLANNERS = {"persim-cem": "categorical-cem"}
"""Planners that are not the thesis's; of as many rollouts as that."""
CONTEXT_AWARE = ("cadm", "pe-ts-cadm")
MODEL_BASED = ("persim", "unfactorized", "unpersonalized", *CONTEXT_AWARE)
MODEL_FREE = ("bcq-p", "bcq-a")
NO_DATA = "-"
"""Stands for the dataset of a method that needs none."""

DATASETS = tuple(EPSILONS)  # section 5.1.2, p. 34
POPULATION = 500  # p. 34
SMALLER = (250, 100, 50, 25)  # section 5.3, p. 41
PREDICTION, RETURN, LOGS = ("rmse", "r2"), ("return",), ("logged-return", "logged-length")
"""Metrics that are measured together."""


SHORTENED = "episode_steps="
"""In the settings of a result whose episodes were cut short."""


@dataclass(frozen=True)
class Effort:
    """What is spent on one method.

    Attributes:
        episodes: Episodes that its return is the mean of, an agent and trial.
        steps: Longest episode; 0 for the domain's own limit.
        planner: Sizes of its planner that are not the thesis's, such as `candidates`.
        training: Training steps; 0 for the method's own default.
    """

    episodes: int
    steps: int = 0
    planner: tuple[tuple[str, int], ...] = ()
    training: int = 0

    def settings(self, planner: str = "") -> str:
        """What differs from the thesis, or is left open by it, in words; part of what identifies a result.

        Args:
            planner: Name of the planner, if it is not the thesis's.
        """
        said = [f"planner={planner}"] if planner else []
        said += [f"{name}={size}" for name, size in self.planner]
        said += [f"training_steps={self.training}"] if self.training else []
        said += [f"{SHORTENED}{self.steps}"] if self.steps else []
        return " ".join(said) or "as the thesis"


@dataclass(frozen=True)
class Scale:
    """How much of the protocol is run.

    Attributes:
        trials: Repetitions, each with a training of its own.
        prediction_episodes: Episodes that prediction errors are measured on.
        agents: Test agents.
        efforts: Spent on a method, by (domain, method) or method; on others `effort`.
        effort: Spent on all other methods.
    """

    trials: int
    prediction_episodes: int
    agents: tuple[int, ...]
    efforts: Mapping[str | tuple[str, str], Effort]
    effort: Effort

    def effort_of(self, domain: str, method: str) -> Effort:
        """What is spent on a method in a domain; on one of ours as on that of the thesis that it stands beside."""
        named = [key for name in (method, BESIDE.get(method, method)) for key in ((domain, name), name)]
        return next((self.efforts[key] for key in named if key in self.efforts), self.effort)


def _sizes(**sizes: int) -> tuple[tuple[str, int], ...]:
    return tuple(sizes.items())


_BCQ = Effort(100, training=30_000)
_FEW = _sizes(candidates=100, horizon=30)
SCALES = {
    "quick": Scale(
        trials=1,
        prediction_episodes=50,
        agents=(0, 3, 4),
        effort=Effort(5),
        efforts={
            "bcq-p": Effort(20, training=10_000),
            "bcq-a": Effort(20, training=10_000),
            # A plan in a model that has no compiled rollout costs many times one in a simulator.
            "unfactorized": Effort(2, planner=_FEW),
            "cadm": Effort(2, planner=_sizes(candidates=100, horizon=20), training=2_000),
            "pe-ts-cadm": Effort(1, planner=_sizes(candidates=50, horizon=10), training=1_000),
        },
    ),
    "committed": Scale(  # What this repository's results are made at: two cores, some hours.
        trials=5,
        prediction_episodes=200,
        agents=TEST_AGENTS,
        effort=Effort(20),
        efforts={
            "bcq-p": _BCQ,
            "bcq-a": _BCQ,
            "unfactorized": Effort(5, planner=_FEW),
            "cadm": Effort(5, planner=_FEW),
            "pe-ts-cadm": Effort(1, planner=_FEW),
            ("halfcheetah", "persim"): Effort(1, planner=_sizes(candidates=100, elites=25)),
            ("halfcheetah", "cadm"): Effort(1),
            ("halfcheetah", "pe-ts-cadm"): Effort(1, steps=100, planner=_sizes(candidates=50, horizon=10)),
            ("halfcheetah", "true-mpc"): Effort(1),
        },
    ),
    "thesis": Scale(
        trials=5,  # p. 38
        prediction_episodes=200,  # p. 51
        agents=TEST_AGENTS,  # Table 5.1, p. 34
        effort=Effort(20),  # p. 38
        efforts={
            "bcq-p": Effort(100, training=550_000),  # p. 38, p. 47
            "bcq-a": Effort(100, training=550_000),
        },
    ),
}


@dataclass(frozen=True)
class Table:
    """One table of the thesis, or one lettered part of it.

    Attributes:
        name: As the thesis numbers it.
        title: What it shows.
        page: Page of the thesis.
        domain: Name of the domain; empty for all three.
        metrics: What a cell holds.
        datasets: Logging policies.
        sizes: Numbers of agents in the data.
        methods: Keys of `METHODS`.
        agents: Agents with a column, from 0.
        source: Table whose numbers it repeats a part of; empty for one of its own.
    """

    name: str
    title: str
    page: int
    domain: str
    metrics: tuple[str, ...]
    datasets: tuple[str, ...]
    sizes: tuple[int, ...]
    methods: tuple[str, ...]
    agents: tuple[int, ...] = TEST_AGENTS
    source: str = ""

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of its domains."""
        return (self.domain,) if self.domain else THESIS_DOMAINS


_ERRORS = ("persim", "cadm", "pe-ts-cadm")
_REWARDS = ("persim", "cadm", "pe-ts-cadm", "bcq-p", "bcq-a", "true-mpc")
_DISCRETE_REWARDS = ("persim", "persim-cem", "cadm", "pe-ts-cadm", "bcq-p", "bcq-a", "true-mpc")
_FEWER_ERRORS = ("persim", "unfactorized", "cadm", "pe-ts-cadm")
_FEWER_REWARDS = ("persim", "unfactorized", "cadm", "pe-ts-cadm", "bcq-p")
_FEWER_MOUNTAINCAR = ("persim", "unfactorized", "unpersonalized", "cadm", "pe-ts-cadm", "bcq-p")
_MC, _CP, _HC = "mountaincar", "cartpole", "halfcheetah"
_EXTREMES, _ALL, _RANDOM = (0, 3, 4), (POPULATION,), ("random",)

TABLES = {
    table.name: table
    for table in (
        Table("5.2a", "Reward: MountainCar", 39, _MC, RETURN, DATASETS, _ALL, _DISCRETE_REWARDS, _EXTREMES, "B.4"),
        Table("5.2b", "Reward: CartPole", 39, _CP, RETURN, DATASETS, _ALL, _DISCRETE_REWARDS, _EXTREMES, "B.5"),
        Table("5.2c", "Reward: HalfCheetah", 39, _HC, RETURN, DATASETS, _ALL, _REWARDS, (0, 1, 2), "B.6"),
        Table("5.3", "Ablation: MountainCar", 42, _MC, RETURN, _RANDOM, SMALLER, _FEWER_MOUNTAINCAR, source="B.10"),
        Table("A.1", "Logged reward and length", 50, "", LOGS, DATASETS, _ALL, ("logging",)),
        Table("B.1", "Prediction error: MountainCar", 52, _MC, PREDICTION, DATASETS, _ALL, _ERRORS),
        Table("B.2", "Prediction error: CartPole", 52, _CP, PREDICTION, DATASETS, _ALL, _ERRORS),
        Table("B.3", "Prediction error: HalfCheetah", 53, _HC, PREDICTION, DATASETS, _ALL, _ERRORS),
        Table("B.4", "Average reward: MountainCar", 55, _MC, RETURN, DATASETS, _ALL, _DISCRETE_REWARDS),
        Table("B.5", "Average reward: CartPole", 56, _CP, RETURN, DATASETS, _ALL, _DISCRETE_REWARDS),
        Table("B.6", "Average reward: HalfCheetah", 56, _HC, RETURN, DATASETS, _ALL, _REWARDS),
        Table("B.7", "Prediction error of fewer agents: MountainCar", 58, _MC, PREDICTION, _RANDOM, SMALLER,
              _FEWER_ERRORS),
        Table("B.8", "Prediction error of fewer agents: CartPole", 58, _CP, PREDICTION, _RANDOM, SMALLER,
              _FEWER_ERRORS),
        Table("B.9", "Prediction error of fewer agents: HalfCheetah", 59, _HC, PREDICTION, _RANDOM, SMALLER,
              _FEWER_ERRORS),
        Table("B.10", "Average reward of fewer agents: MountainCar", 59, _MC, RETURN, _RANDOM, SMALLER,
              _FEWER_MOUNTAINCAR),
        Table("B.11", "Average reward of fewer agents: HalfCheetah", 60, _HC, RETURN, _RANDOM, SMALLER,
              _FEWER_REWARDS),
        Table("B.12", "Average reward of fewer agents: CartPole", 60, _CP, RETURN, _RANDOM, SMALLER, _FEWER_REWARDS),
    )
}  # fmt: skip
"""By name, in the thesis's order."""


@dataclass(frozen=True, order=True)
class Cell:
    """What is run at once: one method on one dataset, for one agent, in one trial.

    Attributes:
        domain: Name of the domain.
        dataset: Logging policy; `NO_DATA` for a method that needs none.
        method: A key of `METHODS`.
        n_agents: Agents in the data.
        agent: Number of the agent; "all" for a figure of all of them.
        seed: The trial.
        metrics: `PREDICTION`, `RETURN` or `LOGS`: the rows that it makes.
    """

    domain: str
    dataset: str
    method: str
    n_agents: int
    agent: str
    seed: int
    metrics: tuple[str, ...]


def cells_of(
    tables: Collection[Table],
    scale: Scale,
    *,
    domains: Collection[str] = THESIS_DOMAINS,
    methods: Collection[str] = tuple(METHODS),
) -> list[Cell]:
    """The cells that tables are made of, each once; the first trial of all before the second of any.

    Args:
        tables: Tables.
        scale: How much is run.
        domains: Domains that count.
        methods: Methods that count.
    """
    cells = dict.fromkeys(
        cell
        for table in tables
        for domain in table.domains
        if domain in domains
        for cell in _table_cells(table, domain, scale)
        if cell.method in methods
    )
    return sorted(cells, key=lambda cell: cell.seed)


def _table_cells(table: Table, domain: str, scale: Scale) -> Iterator[Cell]:
    for n_agents, dataset, method in product(table.sizes, table.datasets, table.methods):
        if method == "logging":  # Logs are what they are: one trial, and the mean of all agents beside the five.
            for name in (*map(str, TEST_AGENTS), ALL_AGENTS):
                yield Cell(domain, dataset, method, n_agents, name, 0, table.metrics)
            continue
        data = NO_DATA if method == "true-mpc" else dataset
        agents = [agent for agent in table.agents if agent in scale.agents]
        for seed, agent in product(range(scale.trials), agents):
            yield Cell(domain, data, method, n_agents, str(agent), seed, table.metrics)
