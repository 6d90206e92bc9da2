"""Vanilla CaDM and PE-TS CaDM beside the thesis's figures and PerSim's.

Trains both on every dataset and measures them as simulators are, by `prediction_error` on agents 0-4. A row of `--out`
is one figure of one agent; what is there is not made again, and a training that was killed goes on. PerSim's figures
are those of simulators that are found by name, bundled ones among them, or of `--persim`.

    OMP_NUM_THREADS=1 python benchmarks/cadm.py
    python benchmarks/cadm.py --tables
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from persim_gym.baselines.cadm.config import KINDS
from persim_gym.baselines.cadm.simulator import CadmSimulator
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import format_error, prediction_error
from persim_gym.evaluation.published import TEST_AGENTS, published_error
from persim_gym.jobs import RowLog
from persim_gym.simulator.registry import list_simulators, load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.studies.accuracy import DEFAULT, MEASURES, read_rows

POLICIES = ("pure", "random", "pure-eps-20", "pure-eps-40")
PERSIM = "persim"
JOB, COLUMNS = ("domain", "dataset", "method", "seed", "agent", "metric"), ("value", "training_seconds")
LARGEST_RATIO = 1.5  # Times the thesis's own figure that a faithful model is allowed.

Errors = Mapping[tuple[str, str, str, int], Sequence[float]]
"""RMSE of each seed by (domain, dataset, method, agent)."""


def measure(model: CadmSimulator | Simulator, domain: str, policy: str, method: str, seed: int, log: RowLog) -> None:
    """Adds the figures of all test agents."""
    test = load_behavior_policy(domain, TEST)
    for agent in TEST_AGENTS:
        error = prediction_error(model.dynamics(agent), DOMAINS[domain], agent, test, seed=seed)
        for metric, value in (("rmse", error.mean_rmse), ("r2", error.median_r2)):
            key = dict(zip(JOB, (domain, policy, method, seed, agent, metric), strict=True))
            log.add(key, {"value": f"{value:.6g}", "training_seconds": model.card.training_seconds})


def is_done(domain: str, policy: str, method: str, seed: int, log: RowLog) -> bool:
    """Whether all figures of a training are there."""
    jobs = [(domain, policy, method, seed, agent, metric) for agent in TEST_AGENTS for metric in ("rmse", "r2")]
    return all(log.get(dict(zip(JOB, job, strict=True))) is not None for job in jobs)


def run(options: argparse.Namespace, log: RowLog) -> None:
    """Trains and measures what is missing, one seed of everything after the other."""
    datasets = [(domain, policy) for domain in options.domains for policy in options.policies]
    jobs = [(*dataset, method, seed) for seed in options.seeds for method in options.methods for dataset in datasets]
    for domain, policy, method, seed in jobs:
        if is_done(domain, policy, method, seed, log):
            continue
        folder = options.models / f"{domain}-{policy}-{method}-{seed}"
        data = load(f"persim/{domain}/{policy}-v0", progress=False)
        model = train_cadm(data, probabilistic=method == "pe-ts-cadm", seed=seed, out=folder)
        measure(model, domain, policy, method, seed, log)
        print(folder.name, f"{model.card.training_seconds} s", flush=True)
    for domain, policy in datasets:
        name = f"{domain}/{policy}-v0"
        if name in list_simulators() and not is_done(domain, policy, PERSIM, 0, log):
            measure(load_simulator(name), domain, policy, PERSIM, 0, log)


def add_persim(study: Path, log: RowLog) -> None:
    """Adds PerSim's errors by its default recipes from the table of `persim study accuracy`."""
    for row in read_rows(study):
        if row["variation"] != DEFAULT:
            continue
        for metric in MEASURES:
            for agent in TEST_AGENTS:
                key = (row["domain"], row["policy"], PERSIM, row["seed"], agent, metric)
                value = {"value": row[f"{metric}_{agent}"], "training_seconds": row["seconds"]}
                log.add(dict(zip(JOB, key, strict=True)), value)


def read_errors(path: Path) -> Errors:
    """RMSE by cell; one value a seed."""
    found: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["metric"] == "rmse":
            found[row["domain"], row["dataset"], row["method"], int(row["agent"])].append(float(row["value"]))
    return found


def tables(errors: Errors) -> str:
    """Markdown: mean RMSE over seeds, ours / the thesis's, and how many cells pass; of what was measured."""
    parts = []
    measured = {key[:3] for key in errors}
    for domain in (domain for domain in DOMAINS if any(key[0] == domain for key in measured)):
        for method, title in KINDS.items():
            policies = [policy for policy in POLICIES if (domain, policy, method) in measured]
            if not policies:
                continue
            lines = [f"### {DOMAINS[domain].title}, {title}: ours / the thesis's (PerSim)", ""]
            lines += [
                f"| data | {' | '.join(f'agent {a}' for a in TEST_AGENTS)} |",
                "|---|" + "---|" * len(TEST_AGENTS),
            ]
            near = beaten = compared = cells = 0
            for policy in policies:
                shown = []
                for agent in TEST_AGENTS:
                    own = errors.get((domain, policy, method, agent))
                    known = published_error(domain, policy, agent, title)
                    if own is None or known is None:
                        shown.append("")
                        continue
                    mean, persim = float(np.mean(own)), errors.get((domain, policy, PERSIM, agent))
                    passes = mean <= LARGEST_RATIO * known[0]
                    cells, near = cells + 1, near + passes
                    text = f"{format_error(mean)} / {known[0]:.3f}"
                    if persim is not None:
                        compared, beaten = compared + 1, beaten + (np.mean(persim) < mean)
                        text += f" ({format_error(float(np.mean(persim)))})"
                    shown.append(f"**{text}**" if passes else text)
                lines.append(f"| {policy} | {' | '.join(shown)} |")
            said = f"At most {LARGEST_RATIO} times the thesis's in {near} of {cells} cells."
            below = f" PerSim's is below in {beaten} of {compared}." if compared else ""
            lines += ["", f"{said}{below}", ""]
            parts.append("\n".join(lines))
    return "\n".join(parts)


def main() -> None:
    """Reads the options and does what they say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=["mountaincar", "cartpole"])
    parser.add_argument("--policies", nargs="+", default=list(POLICIES), choices=POLICIES)
    parser.add_argument("--methods", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("results/cadm_accuracy.csv"))
    parser.add_argument("--models", type=Path, default=Path("persim-out/cadm"), help="folder of the trained models")
    parser.add_argument("--persim", type=Path, help="accuracy.csv of `persim study accuracy`, whose errors are added")
    parser.add_argument("--tables", action="store_true", help="print what is there and train nothing")
    options = parser.parse_args()
    if options.persim is not None or not options.tables:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        log = RowLog(options.out, JOB, COLUMNS)
        if options.persim is not None:
            add_persim(options.persim, log)
        if not options.tables:
            run(options, log)
    print(tables(read_errors(options.out)))


if __name__ == "__main__":
    main()
