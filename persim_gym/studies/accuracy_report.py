"""Tables of prediction errors: beside the thesis's own, beside its recipe on the same data, and parts of recipes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from persim_gym.datasets.registry import THESIS_DOMAINS
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.prediction import format_error
from persim_gym.evaluation.published import ERROR_TABLE, TEST_AGENTS, published_error
from persim_gym.studies.accuracy import CHANGES, DEFAULT, LOGGING_POLICIES, MEASURES, THESIS_RECIPE
from persim_gym.studies.sensitivity import sensitivity_table
from persim_gym.studies.test_policies import RETURN

Row = Mapping[str, str]


def error_tables(rows: Sequence[Row]) -> str:
    """Markdown: Tables B.1–B.3, ours / thesis, of the default recipes, and how many cells are at or below."""
    parts = []
    for domain in THESIS_DOMAINS:
        ours = [row for row in rows if (row["domain"], row["variation"]) == (domain, DEFAULT)]
        if ours:
            title = f"### {DOMAINS[domain].title} (Table {ERROR_TABLE[domain]})"
            table, below, third = _beside(domain, ours, _published, places=3)
            counts = f"At or below the thesis's: {below}; at or below a third of it: {third}."
            parts.append(f"{title}\n\n{table}\n\n{counts}")
    return "\n\n".join(parts) + "\n"


def same_data_tables(rows: Sequence[Row]) -> str:
    """Markdown: our default recipes / the thesis's own recipe, trained on the same data and seeds; empty if none is."""
    theirs = {(row["domain"], row["policy"], row["seed"]): row for row in rows if row["variation"] == THESIS_RECIPE}

    def reference(row: Row, agent: int) -> float:
        return float(theirs[row["domain"], row["policy"], row["seed"]][f"rmse_{agent}"])

    parts = []
    for domain in THESIS_DOMAINS:
        defaults = [row for row in rows if (row["domain"], row["variation"]) == (domain, DEFAULT)]
        ours = [row for row in defaults if (domain, row["policy"], row["seed"]) in theirs]
        if ours:
            table, below, third = _beside(domain, ours, reference)
            counts = f"At or below: {below}; at or below a third: {third}."
            parts.append(f"### {DOMAINS[domain].title}, same data\n\n{table}\n\n{counts}")
    return "\n\n".join(parts) + "\n" if parts else ""


def explained_tables(rows: Sequence[Row]) -> str:
    """Markdown: median R² of the default recipes, ours / the thesis's, and how many cells are at or above."""
    parts = []
    for domain in THESIS_DOMAINS:
        ours = [row for row in rows if (row["domain"], row["variation"]) == (domain, DEFAULT)]
        if ours:
            table, above, _ = _beside(domain, ours, partial(_published, measure="r2"), places=3, measure="r2")
            parts.append(f"### {DOMAINS[domain].title}, median R²\n\n{table}\n\nAt or above the thesis's: {above}.")
    return "\n\n".join(parts) + "\n"


def spread_table(rows: Sequence[Row]) -> str:
    """Markdown: mean RMSE / √(1 − median R²) of HalfCheetah, ours / the thesis's; empty without its rows."""
    ours = [row for row in rows if (row["domain"], row["variation"]) == ("halfcheetah", DEFAULT)]
    lines = [f"| data | {' | '.join(covariate_label(DOMAINS['halfcheetah'], agent) for agent in TEST_AGENTS)} |"]
    lines.append(f"|---|{'---|' * len(TEST_AGENTS)}")
    for row in sorted(ours, key=lambda r: LOGGING_POLICIES.index(r["policy"])):
        cells = []
        for agent in TEST_AGENTS:
            pairs = (
                (float(row[f"rmse_{agent}"]), float(row[f"r2_{agent}"])),
                tuple(_published(row, agent, measure) for measure in MEASURES),
            )
            cells.append(" / ".join(f"{rmse / np.sqrt(1 - r2):.2f}" for rmse, r2 in pairs))
        lines.append(f"| {row['policy']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" if ours else ""


def other_policies_tables(rows: Sequence[Row]) -> str:
    """Markdown: errors and explained variance under test policies of other seeds, ours / the thesis's."""
    parts = []
    for domain, seed in sorted({(row["domain"], row["test_seed"]) for row in rows}):
        ours = [{**row, "seed": "0"} for row in rows if (row["domain"], row["test_seed"]) == (domain, seed)]
        errors, below, _ = _beside(domain, ours, _published, places=3)
        explained, above, _ = _beside(domain, ours, partial(_published, measure="r2"), places=3, measure="r2")
        earned = f"{float(ours[0][RETURN]):,.0f}"
        parts.append(
            f"### {DOMAINS[domain].title}, test policy of seed {seed}, which earns {earned}\n\n"
            f"{errors}\n\nRMSE at or below the thesis's: {below}.\n\n"
            f"{explained}\n\nMedian R² at or above the thesis's: {above}."
        )
    return "\n\n".join(parts) + "\n" if parts else ""


def _published(row: Row, agent: int, measure: str = "rmse") -> float:
    known = published_error(row["domain"], row["policy"], agent)
    assert known is not None
    return known[MEASURES.index(measure)]


def _beside(
    domain: str, ours: Sequence[Row], reference: Callable[[Row, int], float], places: int = 4, measure: str = "rmse"
) -> tuple[str, str, str]:
    """A table of ours / reference, bold where ours rounds to no worse; how many cells do, and how many are a third."""
    labels = [covariate_label(DOMAINS[domain], agent) for agent in TEST_AGENTS]
    timed = "seconds" in ours[0]
    head, tail = ["data", "seed", *labels], ["training, s"] if timed else []
    lines = [f"| {' | '.join([*head, *tail])} |", f"|{'---|' * len([*head, *tail])}"]
    fine = third = cells = 0
    for row in sorted(ours, key=lambda r: (LOGGING_POLICIES.index(r["policy"]), int(r["seed"]))):
        columns = []
        for agent in TEST_AGENTS:
            value, known = float(row[f"{measure}_{agent}"]), reference(row, agent)
            ahead = round(known, places) - round(value, places)
            no_worse = ahead >= 0 if measure == "rmse" else ahead <= 0
            cells, fine, third = cells + 1, fine + no_worse, third + (value <= known / 3)
            text = f"{format_error(value) if measure == 'rmse' else f'{value:.{places}f}'} / {known:.{places}f}"
            columns.append(f"**{text}**" if no_worse else text)
        seconds = [f"{float(row['seconds']):.0f}"] if timed else []
        lines.append(f"| {' | '.join([row['policy'], row['seed'], *columns, *seconds])} |")
    return "\n".join(lines), f"{fine} of {cells} cells", str(third)


def ablation_tables(rows: Sequence[Row]) -> str:
    """Markdown: one table a dataset, the default recipe first; over several seeds, of those that every row has."""
    parts = []
    for (domain, policy), changes in CHANGES.items():
        names = (THESIS_RECIPE, DEFAULT, *changes)
        runs: dict[str, dict[int, Row]] = {}
        for row in rows:
            if (row["domain"], row["policy"]) == (domain, policy) and row["variation"] in names:
                runs.setdefault(row["variation"], {})[int(row["seed"])] = row
        seeds = sorted(set.intersection(*map(set, runs.values()))) if set(runs) & set(changes) else []
        if not seeds:
            continue
        agents = " | ".join(f"agent {agent}" for agent in TEST_AGENTS)
        several = len(seeds) > 1
        counted = " cells at or below the thesis's |" if several else ""
        means = f"Geometric means over seeds {', '.join(map(str, seeds))}.\n\n" if several else ""
        lines = [
            f"### {domain}/{policy}-v0\n\n{means}| change | {agents} |{counted} training, s |",
            f"|---|{'---|' * (len(TEST_AGENTS) + several)}---|",
        ]
        for name in names:
            if name in runs:
                lines.append(_ablation_row(domain, policy, name, [runs[name][seed] for seed in seeds]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _ablation_row(domain: str, policy: str, name: str, runs: Sequence[Row]) -> str:
    errors = np.array([[float(run[f"rmse_{agent}"]) for agent in TEST_AGENTS] for run in runs])  # [seeds, agents]
    cells = " | ".join(format_error(error) for error in np.exp(np.log(errors).mean(0)).tolist())
    seconds = f"{np.mean([float(run['seconds']) for run in runs]):.0f}"
    if len(runs) == 1:
        return f"| {name} | {cells} | {seconds} |"
    known = [published_error(domain, policy, agent) for agent in TEST_AGENTS]
    below = sum(round(e, 3) <= k[0] for row in errors.tolist() for e, k in zip(row, known, strict=True) if k)
    return f"| {name} | {cells} | {below} of {errors.size} | {seconds} |"


_SAME_DATA = """## The thesis's recipe on the same data

Part of what sets our errors apart from the published ones is the data and the test policy. Here the thesis's own recipe
(`persim train --recipe thesis`: its layers, rank, batch, learning rate and 300 epochs, PyTorch's initialisation) is
trained on our data and tested as ours is: ours / the thesis's recipe. A HalfCheetah of it takes most of an hour a
member: one stands beside one of ours in the last table of this page.

    persim study accuracy --domain mountaincar --variation thesis --seeds 0,1,2
    persim study accuracy --domain cartpole --variation thesis --seeds 0,1,2
"""

_EXPLAINED = """## What is explained

R² is the share of an episode's variance that the predictions explain: the median of the episodes, ours / the thesis's.
Bold: at or above the thesis's. Unlike RMSE it does not depend on how far a test policy drives its agents.
"""

_SPREAD = """HalfCheetah's test policy drives its agents farther than the thesis's did: RMSE / √(1 − R²), about the
spread of an episode's observations, ours / the thesis's.
"""

_OTHERS = """## Under other test policies

A test policy decides where agents go, and how chaotically. The thesis's is not published, and trainings that differ in
nothing but their seed end in different gaits. Here the same simulators are tested under further policies, trained as
ours is with other seeds, and stopped at the same return: ours / the thesis's. None of them chose a recipe. From seed 0,
whose errors stand above, to seed 2 those of the agent of mass 1.7 and damping 1.7 fall by 18 to 47 %; those of mass 0.3
and damping 0.3 are above the thesis's under each.

    persim study test-policies
"""

_FLOOR = """## What nearly perfect simulators would score

The true dynamics themselves, set off by noise: either once, where they start, by a fraction of each dimension's
standard deviation, or at every step, by a fraction of the root mean square of its change in a step. The mean of five
such rollouts is scored, as an ensemble's is. Where these errors are large the agent is chaotic under the test policy: a
model that errs by 1 % in its first step can hardly do better, however well it was trained. Noise of 1 % at every step
takes HalfCheetah's agent of mass 1.7 and damping 1.7 past three of the thesis's four errors of it already, which were
measured under another test policy.

    persim study sensitivity
"""


def accuracy_page(rows: Sequence[Row], others: Sequence[Row] = (), set_off: Sequence[Row] = ()) -> str:
    """Markdown: how errors are measured, the tables beside the thesis's, and the ablations.

    Args:
        rows: Of `accuracy.csv`.
        others: Rows of `persim_gym.studies.test_policies`, if there are any.
        set_off: Rows of `persim_gym.studies.sensitivity`, likewise.
    """
    same_data = same_data_tables(rows)
    same_data = f"{_SAME_DATA}\n{same_data}\n" if same_data else ""
    explained = f"{_EXPLAINED}\n{explained_tables(rows)}\n"
    spread = spread_table(rows)
    explained += f"{_SPREAD}\n{spread}\n" if spread else ""
    explained += f"{_OTHERS}\n{other_policies_tables(others)}\n" if others else ""
    floor = f"{_FLOOR}\n{sensitivity_table(set_off)}\n" if set_off else ""
    return f"""# How accurate the simulators are

Mean RMSE of 200 episodes of 50 open-loop steps under a test policy that was trained on the default agent and never
logged, ours / the thesis's (PerSim, 500 agents). Bold: at or below the thesis's, both rounded as the thesis rounds.
Each simulator has five members and the default recipe of its dataset. Times are wall clock of trainings that shared
two cores with other work, one core each; `benchmarks/training.py` has speeds.

Data and test policies are our own, made as the thesis describes; where loggers or the test policy behave differently
from the thesis's, so do the errors. Our HalfCheetah test policy earns 4,252 on the default agent.
Recipes were chosen on seed 0; that of MountainCar's pure data on seeds 0 to 2.
Weights differ between processors, and so do errors: HalfCheetah's ablations were run on one that multiplies bfloat16,
its other tables on one that does not.

    persim study accuracy --seeds 0,1,2
    persim study accuracy --domain halfcheetah

{error_tables(rows)}
{explained}{same_data}{floor}## What the parts of a recipe bring

Each row changes the default recipe in the respects it names; RMSE of agents 0–4, of seed 0 where no seeds are given.

    persim study accuracy --domain mountaincar --policy random --variation all
    persim study accuracy --domain mountaincar --policy pure --variation all
    persim study accuracy --domain cartpole --policy random --variation all
    persim study accuracy --domain halfcheetah --policy random --variation all

MountainCar's dynamics are of rank 3 and smooth, but for the wall at the left end, which takes all of a car's speed at
once. It stops 0.02 % of the transitions of the random data and up to 0.3 % of the others. A simulator that learns it as
all else is spreads that jump over the states around it and, as rank 3 has no room for it, over all others. Recipes find
such walls in the data (`walls`: an extreme that is met exactly, again and again), leave the transitions that they stop
out of training, and apply them to what is predicted. The speed limit is no wall: it cuts a few cars' speed off and sets
nothing else.

What is left is smooth and without noise, as CartPole is: there the last layer of the state encoder is solved in closed
form after training, in turns with the agents' factors (`refine`, rounds of two ridge regressions, on at most 20,000
transitions), which takes the one-step error to a small part of what Adam leaves; on MountainCar's random data to what
float32 resolves. The contacts of HalfCheetah's feet leave residuals that a regression would spread over all states; its
recipe has no rounds.

In MountainCar's pure data an agent logs about one action a state, and the agents of one logger are alike: what the
agent does and what the action does can be told apart only across loggers. So its errors stay the largest, and there the
pull of agents towards each other decides.

{ablation_tables(rows)}
Averaged weights, losses over several steps and physical features have [a page of their own](ablations.md).
"""
