"""Which results figures count: one of each cell and trial, and returns of whole episodes."""

from collections.abc import Iterable
from typing import NamedTuple

from persim_gym.reproduce.protocol import SHORTENED
from persim_gym.reproduce.results import Result
from persim_gym.reproduce.tables import precedence


class Place(NamedTuple):
    """Cell and trial of a result: its fields of these names."""

    domain: str
    dataset: str
    n_agents: int
    agent: str
    method: str
    seed: int


def by_place(results: Iterable[Result], metric: str) -> dict[Place, float]:
    """Values of one metric, one a cell and trial: of several the one that tables show.

    Args:
        results: Rows of any cells.
        metric: As `Result.metric`. Returns of episodes that were cut short are left out: those of whole ones differ.
    """
    chosen: dict[Place, Result] = {}
    for row in results:
        if row.metric != metric or (metric == "return" and SHORTENED in row.settings):
            continue
        place = Place(row.domain, row.dataset, row.n_agents, row.agent, row.method, row.seed)
        if place not in chosen or precedence(row) > precedence(chosen[place]):
            chosen[place] = row
    return {place: row.value for place, row in chosen.items()}
