"""The card of a simulator for people: README.md beside card.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from persim_gym.labels import Labels
from persim_gym.simulator.card_header import card_header
from persim_gym.storage import CARD, from_plain
from persim_gym.suggest import MAX_LISTED
from persim_gym.version import __version__


def card_rows(card: Mapping[str, Any]) -> dict[str, str]:
    """What a card's plain values say, by what it is of, code between backticks; empty where there is nothing to say."""
    shape, recipe = card["shape"], card["recipe"]
    labels = from_plain(Labels, card.get("interface", {}).get("labels", {}))
    observed = [labels.with_unit(name) for name in labels.observations]
    acted = labels.choices or [labels.with_unit(name) for name in labels.actions]
    actions = _kind_of_actions(shape, card.get("interface", {}).get("action", {}))
    return {
        "dataset": f"`{card['dataset']}`, {card['transitions']:,} transitions, SHA-256 `{card['dataset_hash'][:16]}…`",
        "agents": f"{shape['n_agents']:,}{_some(labels.agents)}",
        "known of an agent": _known_of_agents(card.get("agents", {}), shape["rank"]),
        "static covariates": _static(card.get("static", {})),
        "observation, actions": f"{shape['obs_dim']} numbers{_some(observed)}, {actions}{_some(acted)}",
        "reward and termination": _task(card),
        "model": f"{shape.get('variant', 'factored')}, rank {shape['rank']}, {shape['members']} members",
        "walls": _walls(card.get("walls", {}), labels.observations),
        "layers": f"state encoder {shape['state_layers']}, action encoder {shape['action_layers'] or 'a table'}",
        "recipe": f"{card['recipe_name']}: {_passes(recipe)}, batch {recipe.get('batch')}, "
        f"learning rate {recipe.get('learning_rate')} ({recipe.get('schedule')}), seed {card['seed']}",
        "trained": f"{card['training_seconds']:.0f} s with "
        + ", ".join(f"{name} {version}" for name, version in card["libraries"].items()),
        "weights": f"`weights.safetensors`, SHA-256 `{card['sha256'][:16]}…`",
        "licence": card["license"],
    }


def card_markdown(card: Mapping[str, Any]) -> str:
    """Markdown of a card's plain values."""
    labels = from_plain(Labels, card.get("interface", {}).get("labels", {}))
    first = json.dumps(labels.agents[0], ensure_ascii=False) if labels.agents else "0"
    rows = card_rows(card)
    title = f"{card_header(card)}# Simulator {card['name']}"
    lines = [title, "", "A personalized simulator of many agents, trained by persim_gym.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value), ""]
    lines += [*_error(card.get("error", {})), *_trust(card.get("trust", {}))]
    lines += [
        "```python",
        "import gymnasium as gym",
        "",
        f'env = gym.make("persim_gym:PersimEnv-v0", agent={first}, simulator="{card["name"]}")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _kind_of_actions(shape: Mapping[str, Any], space: Mapping[str, Any]) -> str:
    """How many actions there are of which kind; `space` as the card holds it."""
    if shape["n_actions"]:
        return f"{shape['n_actions']} discrete"
    sizes = space.get("nvec") or space.get("parts")
    if not sizes:
        return f"{shape['action_dim']} continuous"
    choices = [str(size) for size in sizes if size]
    return f"choices of {' and '.join(choices)}" + (f", {len(sizes) - len(choices)} continuous" if 0 in sizes else "")


def _some(names: Sequence[str]) -> str:
    """The first names, in parentheses; nothing where there are none."""
    more = ", …" if len(names) > MAX_LISTED else ""
    return f" ({', '.join(names[:MAX_LISTED])}{more})" if names else ""


def four_digits(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def _known_of_agents(agents: Mapping[str, Any], rank: int) -> str:
    """What the data say of an agent, or nothing where there are no beliefs."""
    if not agents:
        return ""
    (few, middle, many), (least, left, most) = agents["transitions_seen"], agents["directions_left_open"]
    return (
        f"{middle:,} transitions (median; {few:,} to {many:,}), which leave {four_digits(left)} of {rank} latent "
        f"directions to the prior ({four_digits(least)} to {four_digits(most)})"
    )


def _static(static: Mapping[str, Any]) -> str:
    """Which covariates a new agent may be known by, or nothing where there are none."""
    if not static:
        return ""
    names = ", ".join(column["name"] for column in static["columns"]) or "none that differs between agents"
    return f"{names}; they explain {static['explained']:.0%} of what tells agents apart (agents left out)"


def _passes(recipe: Mapping[str, Any]) -> str:
    return f"{recipe['samples']:,} transitions a member" if recipe.get("samples") else f"{recipe.get('epochs')} epochs"


def _walls(walls: Mapping[str, Any], names: Sequence[str]) -> str:
    """Where predictions are stopped, components named or numbered as observations have them."""
    said = []
    for side, found in walls.items():
        for component, sets in found.items():
            others = [
                f"{_component(j, names)} becomes {four_digits(value)}" for j, value in sets.items() if j != component
            ]
            bound = four_digits(sets[component])
            where = f"{_component(component, names)} is no {'higher' if side == 'high' else 'lower'} than {bound}"
            said.append(" and there ".join([where, ", ".join(others)]) if others else where)
    return "; ".join(said)


def _component(number: str, names: Sequence[str]) -> str:
    return names[int(number)] if names else f"component {number}"


def _task(card: Mapping[str, Any]) -> str:
    task = card.get("interface", {}).get("task", "domain")
    if task == "domain":
        return f"those of the domain {card['domain']}"
    return "learned" if task == "learned" else f"`{task}`"


def _error(error: Mapping[str, Any]) -> list[str]:
    """The error profile as two tables."""
    if not error:
        return []
    lines = [f"## Prediction error ({error['data']})", "", "One step ahead:", "", "| | RMSE | R² |", "|---|---|---|"]
    for name, rmse, r2 in zip(error["columns"], error["one_step_rmse"], error["one_step_r2"], strict=True):
        lines.append(f"| {name} | {four_digits(rmse)} | {four_digits(r2)} |")
    if held_out := error.get("held_out"):
        lines += ["", f"One step ahead, on {held_out['transitions']:,} transitions that were not trained on:", ""]
        lines += ["| | RMSE | of predicting no change |", "|---|---|---|"]
        for name, rmse, idle in zip(error["columns"], held_out["rmse"], held_out["no_change_rmse"], strict=False):
            lines.append(f"| {name} | {four_digits(rmse)} | {four_digits(idle)} |")
    lines += ["", "Open loop, in standard deviations of the logged observations:", "", "| steps | RMSE |", "|---|---|"]
    lines += [
        f"| {step} | {four_digits(value)} |" for step, value in zip(error["steps"], error["open_loop"], strict=True)
    ]
    return [*lines, "", *_by_horizon(error.get("by_horizon"))]


def _by_horizon(report: Mapping[str, Any] | None) -> list[str]:
    """Errors on what was held out, beside simpler predictions."""
    lines = []
    parts = {
        "the last fifth of every trajectory": "later",
        "agents of whom only the first fifth was known": "strangers",
    }
    for what, key in parts.items():
        if report is None or not (errors := report[key]):
            continue
        kinds = errors["overall"]
        lines += [f"Open loop on data that were held out, {what} ({errors['agents']:,} agents):", ""]
        lines += [f"| steps | {' | '.join(kinds)} |", "|---|" + "---|" * len(kinds)]
        for i, step in enumerate(errors["steps"]):
            lines.append(f"| {step} | {' | '.join(four_digits(means[i]) for means in kinds.values())} |")
        lines.append("")
    if lines:
        lines += [
            "Measured on a simulator of the same recipe that had not seen these data, in standard deviations of the "
            "logged observations. This one was then trained on all of them.",
            "",
        ]
    return lines


def _trust(trust: Mapping[str, Any]) -> list[str]:
    """What was measured of what to trust, in words; then errors and spreads by step."""
    if "spread_profile" not in trust:
        return []
    strangers = trust.get("stranger_coverage")
    promised = trust["scale"] >= 0  # A negative scale stands for too few agents.
    rows = {
        "promise": f"error within {trust['bound']} standard deviations of logged observations for the whole trust "
        f"horizon, in {trust['level']:.0%} of logged trajectories",
        "trust horizon": f"ends where {four_digits(trust['scale'])} × spread passes that bound" if promised else "none",
        "measured": f"error below that on {trust['band_coverage']:.1%}, horizon kept on {trust['coverage']:.1%} of "
        f"trajectories of {trust['agents']} unseen agents"
        + (f", {strangers:.1%} where nothing was known of them" if strangers is not None else ""),
        "without a look at the spread": f"{trust['horizon']} of {trust['steps']} steps",
    }
    lines = ["## Trust", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["| steps | error, median | error, 90 % | spread, median |", "|---|---|---|---|"]
    for step, (middle, high) in trust["profile"].items():
        spread = trust["spread_profile"].get(step)
        lines.append(f"| {step} | {four_digits(middle)} | {four_digits(high)} | {four_digits(spread)} |")
    return [*lines, "", "Of one agent: `persim evaluate SIMULATOR --agent 17`.", ""]


CARD_FORMAT = 1


@dataclass(frozen=True)
class SimulatorCard:
    """What a simulator is and where it comes from.

    Attributes:
        name: `<domain>/<policy>-v0` after its dataset.
        domain: Name of the domain whose task and spaces it has; empty for data of no domain of ours.
        dataset: Minari id of its data.
        dataset_hash: Content hash of its data.
        transitions: Number of transitions it was trained on.
        recipe_name: "default", "thesis" or the user's own.
        recipe: The training recipe.
        seed: Seed of the training.
        training_seconds: Wall-clock time of the training.
        shape: Sizes of the model.
        libraries: Versions that trained it.
        interface: Spaces, time limit and task where they are not the domain's (see `EnvironmentSpec`); else empty.
        error: Prediction error on its data (see `persim_gym.simulator.diagnostics.metrics`).
        trust: Measured limits of its predictions (see `persim_gym.simulator.diagnostics.trust`); empty when not
            measured.
        agents: What it knows of its agents (see `persim_gym.simulator.diagnostics.metrics`); filled in when written,
            empty where it holds no beliefs.
        walls: Where predictions are stopped at once, by side and component (see `persim_gym.simulator.model.walls`);
            filled in when written, empty where there are none.
        static: What static covariates say of its agents (see `persim_gym.simulator.inference.static_prior`); filled in
            when written, empty where it was trained without.
        license: Licence of the weights.
        format: Version of this card.
        sha256: Of the weights; filled in when written.
    """

    name: str
    domain: str
    dataset: str
    dataset_hash: str
    transitions: int
    recipe_name: str
    recipe: dict[str, Any]
    seed: int
    training_seconds: float
    shape: dict[str, Any]
    libraries: dict[str, str]
    interface: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    trust: dict[str, Any] = field(default_factory=dict)
    agents: dict[str, Any] = field(default_factory=dict)
    walls: dict[str, Any] = field(default_factory=dict)
    static: dict[str, Any] = field(default_factory=dict)
    license: str = "MIT"
    format: int = CARD_FORMAT
    sha256: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what earlier versions do not know is left out where it is empty."""
        return {name: value for name, value in asdict(self).items() if name != "static" or value}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SimulatorCard":
        """Checks a card that was read; call this inside `persim_gym.storage.reading`.

        Raises:
            ValueError: If keys, types or values are not those of this format.
        """
        if stored.get("format") != CARD_FORMAT or "license" not in stored:
            raise ValueError(f"{CARD} is not a simulator card of format {CARD_FORMAT} (see format, license)")
        card = from_plain(cls, stored)
        for name in (card.name, card.domain, card.dataset, card.recipe_name):
            if not name.isprintable():
                raise ValueError(f"{name!r} on {CARD} is no name")
        card_markdown(stored)  # Fails where what is said of errors, trust, agents or walls is not of this format.
        return card


def library_versions() -> dict[str, str]:
    """Versions of the libraries that a training depends on."""
    return {library: version(library) for library in ("gymnasium", "numpy", "torch")} | {"persim_gym": __version__}
