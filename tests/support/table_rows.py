"""Rows of results that no run made, for tests of what is made from rows."""

import numpy as np

from persim_gym.reproduce.protocol import NO_DATA, SCALES, TABLES, cells_of
from persim_gym.reproduce.results import Result


def a_row(table="B.4", agent="0", value=-50.0, seed=0, **values):
    """A row of PerSim on the random data of a table, or of what else is given."""
    known = TABLES[table]
    method = values.get("method", "persim")
    row = {
        "domain": known.domain,
        "dataset": NO_DATA if method == "true-mpc" else "random",
        "n_agents": known.sizes[0],
        "agent": agent,
        "method": method,
        "seed": seed,
        "metric": known.metrics[0],
        "value": value,
        "episodes": 5,
        "settings": "",
        "seconds": 1.0,
        "versions": "persim_gym 0.0",
        "hardware": "a processor",
    }
    return Result(**{**row, **values})


def rows_of(name, scale="quick", trials=2, **values):
    """Rows of all cells of a table at a scale, of drawn values."""
    rng = np.random.default_rng(0)
    cells = cells_of([TABLES[name]], SCALES[scale])
    places = dict.fromkeys((c.domain, c.dataset, c.method, c.n_agents, c.agent, c.metrics) for c in cells)
    return [
        a_row(
            name, agent, float(rng.uniform(0.01, 0.9)), seed, domain=domain, dataset=dataset, method=method,
            n_agents=n_agents, metric=metric, **values,
        )
        for domain, dataset, method, n_agents, agent, metrics in places
        for seed in range(trials)
        for metric in metrics
    ]  # fmt: skip
