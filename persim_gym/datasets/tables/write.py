"""Writes the episodes of a table as a Minari dataset, with a card; whole or not at all."""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from tqdm import tqdm

from persim_gym.datasets.minari_adapter import ACTION_MISSING, ACTION_PARTS, EXOGENOUS, LABELS, MISSING
from persim_gym.datasets.minari_files import dataset_folder, placing_dataset
from persim_gym.datasets.registry import find_dataset
from persim_gym.datasets.tables.columns import TableColumns
from persim_gym.datasets.tables.episodes import TableEpisodes, static_values
from persim_gym.datasets.tables.hdf5 import LoggedEpisode, write_episodes
from persim_gym.datasets.tables.roles import Roles
from persim_gym.labels import Labels
from persim_gym.logged_arrays import UNKNOWN_ACTION
from persim_gym.version import __version__

TABLE = "table"
"""Key of a dataset's metadata: which table it was made of, and how."""
CARD_PAGE = "card.md"
_LISTED = 12  # Names of a list that a card shows.


def check_name(name: str, force: bool) -> None:
    """Checks that a dataset of this name may be written.

    Raises:
        ValueError: If it is no name of a dataset, one of ours has it, or there is one and `force` is off.
    """
    try:
        parse_dataset_id(name)
    except (ValueError, TypeError) as error:  # Without a version it is no number to Minari.
        raise ValueError(f"--name {name!r} is no name of a dataset; write it as my/fleet-v0") from error
    if find_dataset(name) is not None:
        raise ValueError(
            f"--name {name} is the name of one of persim_gym's own datasets; choose another, as my/fleet-v0"
        )
    if dataset_folder(name).exists() and not force:
        raise ValueError(f"there is a dataset {name} already; --force replaces it, another --name keeps it")


def write_dataset(
    name: str, columns: TableColumns, episodes: TableEpisodes, roles: Roles, sources: list[str], progress: bool = True
) -> Path:
    """Writes a dataset into Minari's folder.

    Args:
        name: Its Minari id.
        columns: Of the table.
        episodes: What it holds.
        roles: Which column is what.
        sources: Where the table came from, for the card.
        progress: Whether to show a progress bar.

    Returns:
        Its folder.
    """
    kept = _record(columns, episodes, roles, sources)
    with placing_dataset(name) as folder:
        storage = MinariStorage.new(
            folder / "data", observation_space=episodes.obs.space, action_space=episodes.action.space
        )
        storage.update_metadata(
            {
                "dataset_id": name,
                "minari_version": version("minari"),
                "algorithm_name": "logged",
                "author": {"not stated"},
                "description": f"{len(episodes.table_agents)} agents, from {', '.join(sources)}.",
                "requirements": [f"persim-gym=={__version__}"],
                LABELS: asdict(episodes.labels),
                **({ACTION_PARTS: list(episodes.action.sizes)} if episodes.action.sizes else {}),
                **({EXOGENOUS: episodes.obs.exogenous} if episodes.obs.exogenous else {}),
                TABLE: kept,
                **({MISSING: True} if episodes.missing else {}),
            }
        )
        write_episodes(storage, _logged(episodes, roles, progress))
        (folder / CARD_PAGE).write_text(card_text(name, episodes.labels, kept), encoding="utf-8")
    return dataset_folder(name)


def _record(columns: TableColumns, episodes: TableEpisodes, roles: Roles, sources: list[str]) -> dict[str, Any]:
    """What is kept of the table beside its episodes; JSON-plain."""
    static = static_values(columns, episodes, roles)
    space = episodes.action.space
    return {
        "sources": sources,
        "roles": asdict(roles),
        "step": episodes.rows.usual,
        "times": "none" if columns.time is None else "dates" if columns.dates else "numbers",
        "rows": len(columns.agent),
        "agents": len(episodes.table_agents),
        "episodes": len(episodes.begin),
        "transitions": episodes.transitions,
        "actions": int(space.n) if isinstance(space, spaces.Discrete) else 0,
        "missing": episodes.missing,
        "categories": {name: columns.categories[name] for name in roles.columns if name in columns.categories},
        "static": static,
        "said": episodes.said,
    }


def _logged(episodes: TableEpisodes, roles: Roles, progress: bool) -> Iterator[LoggedEpisode]:
    """One episode after the other."""
    rows = episodes.rows
    reward = rows.values[roles.reward] if roles.reward else np.zeros(len(rows))
    ended = rows.values[roles.terminated] > 0 if roles.terminated else np.zeros(len(rows), dtype=np.bool_)
    discrete = episodes.action.rows.ndim == 1
    actions = episodes.action.rows if discrete else episodes.action.rows.astype(np.float32)
    unknown = actions == UNKNOWN_ACTION if discrete and episodes.missing else None
    spans = zip(episodes.begin.tolist(), episodes.end.tolist(), episodes.agent.tolist(), strict=True)
    bar = tqdm(spans, desc="episodes", total=len(episodes.begin), unit="episode", disable=not progress)
    for begin, end, agent in bar:
        terminated = ended[begin + 1 : end + 1]
        truncated = np.zeros(end - begin, dtype=np.bool_)
        truncated[-1] = not terminated[-1]
        infos = {} if rows.time is None else {"time": rows.time[begin : end + 1]}
        if unknown is not None:
            infos[ACTION_MISSING] = np.append(unknown[begin:end], False)
        steps = {
            "observations": episodes.obs.rows[begin : end + 1],
            "actions": actions[begin:end] if unknown is None else actions[begin:end].clip(0),
            "rewards": reward[begin:end],
            "terminations": terminated,
            "truncations": truncated,
        }
        yield LoggedEpisode(agent, steps, infos)


def kind_of_actions(table: dict[str, Any]) -> str:
    """What kind of actions a dataset from a table has, of what its metadata keep of the table."""
    if table["actions"]:
        return f"{table['actions']} choices"
    action = table["roles"]["action"]
    chosen = [name for name in action if name in table["categories"]]
    if not chosen:
        return "continuous"
    counts = [f"{len(table['categories'][name])} choices of {name}" for name in chosen]
    return " and ".join([*counts, *(f"an amount of {name}" for name in action if name not in chosen)])


def card_text(name: str, labels: Labels, table: dict[str, Any]) -> str:
    """The card of a dataset from a table, in Markdown.

    Args:
        name: Minari id of the dataset.
        labels: What agents, observations and actions are called.
        table: What the dataset's metadata keep of the table.
    """
    roles = table["roles"]
    units = [labels.with_unit(column) for column in roles["obs"]]
    choices = (
        f": {table['actions']} choices, {_list(labels.choices)}" if table["actions"] else f", {kind_of_actions(table)}"
    )
    rows = {
        "made from": f"{_list(table['sources'])}, {table['rows']:,} rows",
        "agents": f"{table['agents']:,}, named by {roles['agent']}{': ' * bool(labels.agents)}{_list(labels.agents)}",
        "transitions": f"{table['transitions']:,} in {table['episodes']:,} episodes",
        "time": f"{roles['time']} ({table['times']}); the `infos` of steps hold it"
        if roles["time"]
        else "rows in order",
        "observations": _list(units),
        "actions": f"{_list([labels.with_unit(column) for column in roles['action']])}{choices}",
        "reward": labels.with_unit(roles["reward"]) if roles["reward"] else "none in the table: 0",
        "end of an episode": roles["terminated"] or "none in the table",
        "missing values": missing_text(table["missing"], bool(table["actions"])),
        "exogenous inputs": f"{_list(roles['exogenous'])}; the last columns of observations, seen but not predicted"
        if roles["exogenous"]
        else "",
        "static columns": f"{_list(roles['static'])}; the metadata hold them, agent by agent"
        if roles["static"]
        else "",
        **{f"categories of {column}": _list(names) for column, names in table["categories"].items()},
    }
    lines = [f"# {name}", "", "Made from a table by `persim import`.", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items() if value]
    lines += ["", *(f"- {line}" for line in table["said"]), ""]
    return "\n".join(lines)


def missing_text(missing: bool, discrete: bool) -> str:
    """How a dataset holds values that are missing; empty where there are none."""
    if not missing:
        return ""
    return "NaN" + f"; `{ACTION_MISSING}` in the `infos` of steps says which actions are" * discrete


def _list(names: Any) -> str:
    """The first names."""
    return ", ".join(map(str, names[:_LISTED])) + (", …" if len(names) > _LISTED else "")
