"""What static covariates tell of a new agent, beside its transitions: errors by the number of transitions seen.

    OMP_NUM_THREADS=1 python benchmarks/static_covariates.py mountaincar
    OMP_NUM_THREADS=1 python benchmarks/static_covariates.py patients

Agents 0 to 99 are new. Covariates of the others are known; as a check, each has those of another (shuffled).
`patients` takes the simulator of `benchmarks/patients.py bands`, which it trains where it is missing.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import patients
import torch

from persim_gym.datasets import load
from persim_gym.envs import DOMAINS
from persim_gym.simulator.diagnostics.metrics import one_step
from persim_gym.simulator.inference.static_prior import fit_static_prior

RESULTS = Path(__file__).parent.parent / "results" / "static_covariates.csv"
COLUMNS = ("study", "covariates", "transitions", "metric", "value")
NEW = range(100)
NAMES = [str(1000 + number) for number in NEW]
NEVER = 1e12  # Variance of a column that tells nothing of an agent.


def known(domain: str, simulator: Any, first: int, covariates: Sequence[str], shuffled: bool = False) -> Any:
    """A simulator whose agents' covariates are known, or those of others.

    Args:
        domain: Name of the domain.
        simulator: Of consecutive agents of the population.
        first: Number of its agent 0 in the population.
        covariates: Names.
        shuffled: Whether each agent has the covariates of another.
    """
    agents = np.arange(simulator.n_agents)
    order = np.random.default_rng(0).permutation(agents) if shuffled else agents
    static = {name: values[first + order].tolist() for name, values in of_population(domain, covariates).items()}
    with torch.no_grad():
        factors = simulator.model.agent_encoder(torch.from_numpy(agents)).double()
    return replace(simulator, static=fit_static_prior(factors, static))


def of_population(domain: str, covariates: Sequence[str]) -> dict[str, np.ndarray]:
    """Values of all agents of a population, by covariate."""
    names = [covariate.name for covariate in DOMAINS[domain].covariates]
    return {name: DOMAINS[domain].population[:, names.index(name)] for name in covariates}


def with_new(simulator: Any, domain: str, covariates: Sequence[str], transitions: Any) -> Any:
    """The simulator and `NEW` agents, known by covariates and, unless None, by transitions numbered from 0."""
    values = of_population(domain, covariates)
    static = {name: values[name][list(NEW)].tolist() for name in covariates}
    return simulator.personalize(transitions, NAMES if transitions is None else (), static=static)


def mountaincar(options: argparse.Namespace) -> list[dict[str, Any]]:
    """RMSE one step ahead on the rest of the new agents' random trajectories, in logged standard deviations."""
    from persim_gym import train

    data = load("persim/mountaincar/random-v0", progress=False)
    others = range(len(NEW), data.n_agents)
    trained = replace(patients.of_agents(data, others), n_agents=len(others))
    out = options.models / "mountaincar-static"
    simulator = train(trained, name="mountaincar/static-v0", domain="mountaincar", out=out, progress=False)
    new = replace(patients.of_agents(data, NEW), n_agents=len(NEW))
    rng = np.random.default_rng(3)
    order = np.concatenate([rng.permutation(length) for length in patients.lengths(new)])
    rest = new.select(order >= 50)
    rest = replace(rest, agent=rest.agent + simulator.n_agents, n_agents=simulator.n_agents + len(NEW))
    rows = []
    for label, covariates in {"none": [], "gravity": ["gravity"], "shuffled": ["gravity"]}.items():
        knowing = known("mountaincar", simulator, others.start, covariates, label == "shuffled")
        for count in (0, 1, 2, 5, 20):
            bigger = with_new(knowing, "mountaincar", covariates, new.select(order < count) if count else None)
            error, _ = one_step(bigger.model, rest)
            value = np.sqrt(np.square(error / simulator.model.logged_std.numpy()).mean())
            rows.append(row("mountaincar", label, count, "RMSE one step ahead (standard deviations)", value))
    return rows


def of_patients(options: argparse.Namespace) -> list[dict[str, Any]]:
    """RMSE of the sensor on a further day, as `benchmarks/patients.py errors` has it.

    The observation's known functions of insulin, meals and clock tell nothing of a person, and do not count as
    evidence; the trend is told by the readings.
    """
    simulator, data = patients.small_simulator(options)
    prior = simulator.known_beliefs().prior
    noise = prior.noise.clone()
    noise[:, 1:] = NEVER
    simulator = replace(simulator, beliefs=replace(simulator.beliefs, prior=replace(prior, noise=noise)))
    step = np.concatenate([np.arange(length) for length in patients.lengths(data)])
    days = patients.live(patients.usual(NEW, patients.FURTHER_DAY), NEW, patients.FURTHER_DAY)
    every = [covariate.name for covariate in DOMAINS["patients"].covariates]
    rows = []
    cases = {"none": [], "weight": every[:1], "weight, basal rate": every[:2], "all seven": every, "shuffled": every}
    for label, covariates in cases.items():
        knowing = known("patients", simulator, patients.TESTED.stop, covariates, label == "shuffled")
        print(f"{label}: {knowing.static.explained:.1%} explained", flush=True)
        for count in (0, 4, 24, 96):
            seen = patients.of_agents(data.select(step < count), NEW) if count else None
            bigger = with_new(knowing, "patients", covariates, seen)
            predict = patients.learned(bigger, lambda agent: simulator.n_agents + agent)
            for minutes, value in patients.errors_ahead(predict, days, NEW).items():
                rows.append(row("patients", label, count, f"RMSE after {minutes} min (mg/dL)", value))
    return rows


def row(study: str, covariates: str, transitions: int, metric: str, value: float) -> dict[str, Any]:
    """A row of the results, printed too."""
    print(f"{study:12} {covariates:20} {transitions:4d}  {metric}: {value:.4g}", flush=True)
    return {
        "study": study,
        "covariates": covariates,
        "transitions": transitions,
        "metric": metric,
        "value": f"{value:.4g}",
    }


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("mountaincar", "patients"))
    parser.add_argument("--models", type=Path, default=Path("static-simulators"), help="folder of simulators")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows = {"mountaincar": mountaincar, "patients": of_patients}[options.study](options)
    others = []
    if options.out.is_file():
        with options.out.open(newline="", encoding="utf-8") as file:
            others = [kept for kept in csv.DictReader(file) if kept["study"] != options.study]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(others + rows)


if __name__ == "__main__":
    main()
