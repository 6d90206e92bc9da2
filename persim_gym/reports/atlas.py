"""The atlas: every agent as a point, close to those that behave alike, coloured by whatever is known of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.reports.charts import axis
from persim_gym.reports.markup import paragraphs, unknown
from persim_gym.simulator.simulator import Simulator
from persim_gym.transitions import Transitions

MAX_AGENTS = 2000
"""Points that are drawn."""
MAX_COLUMNS = 16
"""Observations whose mean and deviation points can be coloured by."""
_SIZE = (680, 460)
_ROOM = 14


@dataclass(frozen=True)
class Coloring:
    """Something that is known of agents.

    Attributes:
        name: What it is.
        values: A number or a text for each agent, [N]; None where it is not known.
        group: What kind of knowledge it is.
    """

    name: str
    values: Sequence[float | str | None]
    group: str


def plane(factors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Agents in the two main directions of their factors.

    Members learn factors in coordinates of their own. Side by side, each scaled to the same total variance, they are
    one long vector an agent, whose principal components are taken.

    Args:
        factors: Of each member, [M, N, R].

    Returns:
        Places, [N, 2], and the share of the variance that each direction holds, [2].
    """
    centred = factors - factors.mean(axis=1, keepdims=True)
    total = np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True))
    rows = np.concatenate(list(centred / np.maximum(total, 1e-12)), axis=1)  # [N, M R]
    _, spread, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[:2]
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    places, share = np.zeros((len(rows), 2)), np.zeros(2)
    places[:, : len(directions)] = rows @ (directions * signs[:, None]).T
    share[: len(directions)] = spread[:2] ** 2 / max(float((spread**2).sum()), 1e-30)
    return places, share


def logged_colorings(data: Transitions, names: Sequence[str]) -> list[Coloring]:
    """Statistics of each agent's log.

    Args:
        data: Logged transitions.
        names: What observed columns are called, with units; statistics are of these.
    """
    n, count = data.n_agents, np.bincount(data.agent, minlength=data.n_agents)
    episodes = np.bincount(data.agent[np.flatnonzero(np.diff(data.trajectory, prepend=-1))], minlength=n)
    group = "logged"
    found = [Coloring("mean reward a step", _means(data.agent, data.reward, n)[0], group)]
    if episodes.max() > 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.where(episodes > 0, count / episodes, np.nan)
        found.append(Coloring("mean length of its trajectories", _plain(length), group))
    found.append(Coloring("logged transitions", _plain(count), group))
    for d, name in enumerate(names[:MAX_COLUMNS]):
        mean, deviation = _means(data.agent, data.obs[:, d], n)
        found += [Coloring(f"mean of {name}", mean, group), Coloring(f"deviation of {name}", deviation, group)]
    return found


def _means(
    agent: NDArray[np.int64], values: NDArray[np.float32], n: int
) -> tuple[list[float | None], list[float | None]]:
    """Mean and standard deviation of each agent's values that are known."""
    known = np.isfinite(values)
    agent, wide = agent[known], values[known].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = np.bincount(agent, minlength=n)
        mean = np.bincount(agent, wide, n) / count
        variance = np.bincount(agent, np.square(wide - mean[agent]), n) / count
    return _plain(mean), _plain(np.sqrt(variance))


def _plain(values: NDArray[Any]) -> list[float | None]:
    """Five digits each; None where a value is not finite."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]


def as_coloring(name: str, values: Sequence[Any], group: str) -> Coloring:
    """A column of numbers or texts as it was given."""
    if any(isinstance(value, str) for value in values):
        return Coloring(name, [None if value is None else str(value) for value in values], group)
    return Coloring(name, _plain(np.array([np.nan if v is None else float(v) for v in values])), group)


def atlas_part(simulator: Simulator, colorings: Sequence[Coloring], agents: Sequence[int]) -> str:
    """The picture, its controls, and the numbers that they need.

    Args:
        simulator: A factored simulator.
        colorings: What points can be coloured by; the first one is shown at first.
        agents: Agents with a section of their own, which a click on their point leads to.
    """
    factors = simulator.model.state_dict()["agent_encoder.factor"].double().cpu().numpy()
    places, share = plane(factors)
    shown = _shown(len(places), agents)
    width, height = _SIZE
    x, y = axis([places[:, 0]], _ROOM, width - _ROOM), axis([places[:, 1]], height - _ROOM, _ROOM)
    across, up = x.at(places[:, 0]), y.at(places[:, 1])
    seen = None if simulator.beliefs is None else simulator.beliefs.statistics.seen.numpy() > 0
    points = []
    for i, n in enumerate(shown):
        name = escape(simulator.agent_name(n))
        kinds = "own " * (n in agents) + "unseen" * (seen is not None and not seen[n])
        mark = f' class="{kinds.strip()}"' if kinds else ""
        place = f'cx="{across[n]:.1f}" cy="{up[n]:.1f}" r="{7 if n in agents else 4.5}"'
        points.append(f'<circle{mark} data-i="{i}" data-n="{n}" {place}><title>{name}</title></circle>')
    said = f"Agents in the two main directions of their factors, {share[0]:.1%} and {share[1]:.1%} of the variance"
    picture = (
        f'<svg id="atlas-map" viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{"".join(points)}</svg>'
    )
    notes = [
        f"Across: the first principal component of the agents' factors ({share[0]:.1%} of their variance); up: the "
        f"second ({share[1]:.1%}). Each fills the picture, whatever its share. Neighbours behave alike.",
        "Larger points have a section below: click on one." if agents else "",
    ]
    if len(shown) < len(places):
        notes.append(f"Drawn are {len(shown):,} of {len(places):,} agents, evenly chosen, and those with a section.")
    if seen is not None and not seen.all():
        notes.append(
            f"Agents without data ({int((~seen).sum()):,}) are pale; they lie where the population's prior puts them."
        )
    values = [
        {"name": c.name, "values": [c.values[n] if n < len(c.values) else None for n in shown]} for c in colorings
    ]
    stored = as_script({"names": [simulator.agent_name(n) for n in shown], "columns": values})
    return f"{_controls(colorings)}<div id=atlas-box>{picture}</div>{_readout(colorings)}{paragraphs(*notes)}{stored}"


def _shown(count: int, agents: Sequence[int]) -> list[int]:
    """Agents that are drawn, those with a section last, so that no other point covers them."""
    some = np.unique(np.linspace(0, count - 1, min(count, MAX_AGENTS)).astype(np.int64)).tolist()
    return [n for n in some if n not in agents] + sorted(agents)


def _controls(colorings: Sequence[Coloring]) -> str:
    """The select box."""
    if not colorings:
        return unknown("The data are not here, so that nothing is known of agents to colour the points by.")
    groups: dict[str, list[tuple[int, Coloring]]] = {}
    for i, coloring in enumerate(colorings):
        groups.setdefault(coloring.group, []).append((i, coloring))
    options = "".join(
        f'<optgroup label="{escape(group)}">'
        + "".join(f"<option value={i}>{escape(coloring.name)}</option>" for i, coloring in some)
        + "</optgroup>"
        for group, some in groups.items()
    )
    return f'<p class="controls"><label>Colour: <select id="atlas-color">{options}</select></label></p>'


def _readout(colorings: Sequence[Coloring]) -> str:
    """Where the scale and the agent under the mouse are told."""
    return '<p id="atlas-scale" class="legend"></p>' * bool(colorings) + '<p id="atlas-said">&nbsp;</p>'


def as_script(values: Mapping[str, Any]) -> str:
    """Values as JSON that no browser takes for anything else."""
    plain = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    plain = plain.replace("<", "\\u003c").replace("&", "\\u0026")
    return f'<script type="application/json" id="atlas-data">{plain}</script>'
