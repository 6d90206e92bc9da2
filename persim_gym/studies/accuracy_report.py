"""Tables of prediction errors: beside the thesis's own, beside its recipe on the same data, and parts of recipes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from persim_gym.datasets.registry import THESIS_DOMAINS
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.prediction import format_error
from persim_gym.evaluation.published import ERROR_TABLE, TEST_AGENTS, published_error
from persim_gym.studies.accuracy import CHANGES, DEFAULT, LOGGING_POLICIES, MEASURES, THESIS_RECIPE
from persim_gym.studies.sensitivity import sensitivity_table
from persim_gym.studies.test_policies import MEAN_RETURN

Row = Mapping[str, str]


def error_tables(rows: Sequence[Row]) -> str:
    """Markdown: Tables B.1–B.3, ours / thesis, of the default recipes, and how many cells are at or below."""
    parts = []
    for domain in THESIS_DOMAINS:
        ours = [row for row in rows if (row["domain"], row["variation"]) == (domain, DEFAULT)]
        if ours:
            title = f"### {DOMAINS[domain].title} (Table {ERROR_TABLE[domain]})"
            table, below, third = _table_beside(domain, ours, _published, places=3)
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
            table, below, third = _table_beside(domain, ours, reference)
            counts = f"At or below: {below}; at or below a third: {third}."
            parts.append(f"### {DOMAINS[domain].title}, same data\n\n{table}\n\n{counts}")
    return "\n\n".join(parts) + "\n" if parts else ""


def explained_tables(rows: Sequence[Row]) -> str:
    """Markdown: median R² of the default recipes, ours / the thesis's, and how many cells are at or above."""
    parts = []
    for domain in THESIS_DOMAINS:
        ours = [row for row in rows if (row["domain"], row["variation"]) == (domain, DEFAULT)]
        if ours:
            table, above, _ = _table_beside(domain, ours, partial(_published, measure="r2"), places=3, measure="r2")
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
        errors, below, _ = _table_beside(domain, ours, _published, places=3)
        explained, above, _ = _table_beside(domain, ours, partial(_published, measure="r2"), places=3, measure="r2")
        earned = f"{float(ours[0][MEAN_RETURN]):,.0f}"
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


def _table_beside(
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


def accuracy_page(rows: Sequence[Row], others: Sequence[Row] = (), set_off: Sequence[Row] = ()) -> str:
    """Markdown: how errors are measured, the tables beside the thesis's, and the ablations.

    The sentences stand in `templates/accuracy.md` and, for parts that need rows of their own, in files beside it.

    Args:
        rows: Of `accuracy.csv`.
        others: Rows of `persim_gym.studies.test_policies`, if there are any.
        set_off: Rows of `persim_gym.studies.sensitivity`, likewise.
    """
    return _template("accuracy").format(
        error_tables=error_tables(rows),
        explained_tables=explained_tables(rows),
        spread=_section("spread", spread_table(rows)),
        other_test_policies=_section("other-test-policies", other_policies_tables(others)),
        same_data=_section("same-data", same_data_tables(rows)),
        sensitivity=_section("sensitivity", sensitivity_table(set_off) if set_off else ""),
        ablation_tables=ablation_tables(rows),
    )


def _section(name: str, tables: str) -> str:
    """A part of the page around its tables; empty where there are none."""
    return _template(f"accuracy-{name}").format(tables=tables) if tables else ""


def _template(name: str) -> str:
    return (Path(__file__).parent / "templates" / f"{name}.md").read_text(encoding="utf-8")
