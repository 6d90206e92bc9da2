"""How often bands of predictions hold what they promise, on a table of noisy machines.

    OMP_NUM_THREADS=1 python benchmarks/bands.py

A machine has a temperature, whose noise grows with it, and a queue of jobs, a whole number. The simulator is trained
on the first 70 % of the rows of 80 machines; the next 15 % set the width of the bands, and the last 15 % show how often
they hold. Twenty further machines are known by 100 rows each.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from persim_gym import train
from persim_gym.datasets import from_table
from persim_gym.datasets.load import load_minari
from persim_gym.datasets.minari_adapter import spec_of_dataset
from persim_gym.simulator.diagnostics.bands import prediction_bands
from persim_gym.simulator.diagnostics.measure_noise import measured_noise

RESULTS = Path(__file__).parent.parent / "results" / "bands.csv"
COLUMNS = ("machines", "column", "steps", "metric", "value")
MACHINES, NEW, ROWS = 100, 20, 300
STEPS = (1, 4, 16)
COVERAGE = 0.9
FANS = ("off", "slow", "fast")


def table(seed: int = 0) -> dict[str, list[Any]]:
    """Rows of all machines, in order."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("machine", "minute", "temp", "jobs", "fan", "reward")}
    for machine in range(MACHINES):
        heat, cooling, arrivals = rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0), rng.uniform(1.0, 4.0)
        temp, jobs = rng.normal(50.0, 5.0), int(rng.integers(10))
        for minute in range(ROWS):
            fan = int(rng.integers(3))
            row = (f"M-{machine:03d}", minute, round(temp, 3), jobs, FANS[fan], round(-abs(temp - 50.0), 3))
            for values, value in zip(columns.values(), row, strict=True):
                values.append(value)
            noise = 0.02 * abs(temp - 30.0) * rng.normal()
            temp += 0.1 * (50.0 - temp) + 0.1 * heat * jobs - cooling * fan + noise
            jobs = max(jobs + int(rng.poisson(arrivals)) - int(rng.poisson(2.0 + 0.3 * jobs)), 0)
    return columns


def covered(simulator: Any, data: Any, first: int, shift: int = 0) -> dict[tuple[str, int], tuple[float, float]]:
    """Share of logged values inside the band, and the mean half of its width, by column and number of steps.

    Args:
        simulator: With noise and a width of bands.
        data: Trajectories.
        first: Row of each at which predictions begin.
        shift: What is added to the numbers of their agents.
    """
    inside, half = [], []
    for agent in np.unique(data.agent):
        own = data.select(data.agent == agent)
        for begin in range(first, len(own) - max(STEPS) + 1, 8):
            action = own.action[begin : begin + max(STEPS)]
            found = prediction_bands(simulator, int(agent) + shift, own.obs[begin], action, coverage=COVERAGE)
            logged = own.next_obs[begin : begin + max(STEPS)]
            inside.append((found.lower <= logged) & (logged <= found.upper))
            half.append((found.upper - found.lower) / 2)
    shares, widths = np.mean(inside, axis=0), np.mean(half, axis=0)
    names = simulator.labels.observations
    return {
        (name, steps): (float(shares[steps - 1, d]), float(widths[steps - 1, d]))
        for d, name in enumerate(names)
        for steps in STEPS
    }


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("bands-simulators"), help="folder of simulators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    dataset = from_table(
        table(), name="bench/machines-v0", agent="machine", time="minute", obs=["temp", "jobs"], action="fan",
        reward="reward", integer=["jobs"], force=True, progress=False,
    )  # fmt: skip
    data, spec = load_minari(dataset), spec_of_dataset(dataset)
    row = np.concatenate([np.arange(n) for n in np.bincount(data.agent)]) / (ROWS - 1)
    old = data.agent < MACHINES - NEW
    known = replace(spec, labels=replace(spec.labels, agents=spec.labels.agents[: MACHINES - NEW]))
    simulator = train(
        replace(data.select(old & (row < 0.7)), n_agents=MACHINES - NEW),
        name="bench/machines", spec=known, out=options.models / "machines", progress=False,
    )  # fmt: skip
    held_out = replace(data.select(old & (row >= 0.7) & (row < 0.85)), n_agents=MACHINES - NEW)
    beliefs, integers = simulator.known_beliefs(), simulator.integer_columns()
    noise, scale = measured_noise(simulator.model, beliefs, held_out, integers)
    simulator = replace(simulator, noise=noise, band_scale=scale)
    newer = data.select(~old)
    newer = replace(newer, agent=newer.agent - (MACHINES - NEW), n_agents=NEW)
    bigger = simulator.personalize(newer.select(row[~old] < 100 / (ROWS - 1)), spec.labels.agents[MACHINES - NEW :])
    last = data.select(old & (row >= 0.85))
    cases = {
        "known": covered(simulator, last, 0),
        "new, after 100 rows": covered(bigger, newer, 100, MACHINES - NEW),
    }
    rows = []
    for machines, found in cases.items():
        for (column, steps), (share, width) in found.items():
            print(f"{machines:20} {column:6} {steps:3d} steps: {share:.1%} inside, ± {width:.3g}")
            named = {"machines": machines, "column": column, "steps": steps}
            rows.append({**named, "metric": f"values in the {COVERAGE:.0%} band", "value": f"{share:.4g}"})
            rows.append({**named, "metric": "half of the band", "value": f"{width:.4g}"})
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
