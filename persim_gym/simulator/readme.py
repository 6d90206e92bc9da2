"""The card of a simulator for people: README.md beside card.json."""

from collections.abc import Mapping
from typing import Any


def readme(card: Mapping[str, Any]) -> str:
    """Markdown of a card's plain values."""
    shape, recipe = card["shape"], card["recipe"]
    actions = f"{shape['n_actions']} discrete" if shape["n_actions"] else f"{shape['action_dim']} continuous"
    rows = {
        "dataset": f"`{card['dataset']}`, {card['transitions']:,} transitions, SHA-256 `{card['dataset_hash'][:16]}…`",
        "agents": f"{shape['n_agents']:,}",
        "known of an agent": _known(card.get("agents", {}), shape["rank"]),
        "observation, actions": f"{shape['obs_dim']} numbers, {actions}",
        "reward and termination": _task(card),
        "model": f"{shape.get('variant', 'factored')}, rank {shape['rank']}, {shape['members']} members",
        "walls": _walls(card.get("walls", {})),
        "layers": f"state encoder {shape['state_layers']}, action encoder {shape['action_layers'] or 'a table'}",
        "recipe": f"{card['recipe_name']}: {_passes(recipe)}, batch {recipe.get('batch')}, "
        f"learning rate {recipe.get('learning_rate')} ({recipe.get('schedule')}), seed {card['seed']}",
        "trained": f"{card['training_seconds']:.0f} s with "
        + ", ".join(f"{name} {version}" for name, version in card["libraries"].items()),
        "weights": f"`weights.safetensors`, SHA-256 `{card['sha256'][:16]}…`",
        "licence": card["license"],
    }
    lines = [f"# Simulator {card['name']}", "", "A personalized simulator of many agents, trained by persim_gym.", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items() if value), ""]
    lines += [*_error(card.get("error", {})), *_trust(card.get("trust", {}))]
    lines += [
        "```python",
        "import gymnasium as gym",
        "",
        f'env = gym.make("persim_gym:PersimEnv-v0", agent=0, simulator="{card["name"]}")',
        "```",
        "",
    ]
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def _known(agents: Mapping[str, Any], rank: int) -> str:
    """What the data say of an agent, or nothing where there are no beliefs."""
    if not agents:
        return ""
    (few, middle, many), (least, left, most) = agents["transitions_seen"], agents["directions_left_open"]
    return (
        f"{middle:,} transitions (median; {few:,} to {many:,}), which leave {number(left)} of {rank} latent directions "
        f"to the prior ({number(least)} to {number(most)})"
    )


def _passes(recipe: Mapping[str, Any]) -> str:
    return f"{recipe['samples']:,} transitions a member" if recipe.get("samples") else f"{recipe.get('epochs')} epochs"


def _walls(walls: Mapping[str, Any]) -> str:
    """Where predictions are stopped, components numbered as observations have them."""
    said = []
    for side, found in walls.items():
        for component, sets in found.items():
            others = [f"component {j} becomes {number(value)}" for j, value in sets.items() if j != component]
            where = (
                f"component {component} is no {'higher' if side == 'high' else 'lower'} than {number(sets[component])}"
            )
            said.append(" and there ".join([where, ", ".join(others)]) if others else where)
    return "; ".join(said)


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
        lines.append(f"| {name} | {number(rmse)} | {number(r2)} |")
    lines += ["", "Open loop, in standard deviations of the logged observations:", "", "| steps | RMSE |", "|---|---|"]
    lines += [f"| {step} | {number(value)} |" for step, value in zip(error["steps"], error["open_loop"], strict=True)]
    return [*lines, ""]


def _trust(trust: Mapping[str, Any]) -> list[str]:
    """What was measured of what to trust, in words; then errors and spreads by step."""
    if "spread_profile" not in trust:
        return []
    strangers = trust.get("stranger_coverage")
    promised = trust["scale"] >= 0  # else there were too few agents
    rows = {
        "promise": f"error within {trust['bound']} standard deviations of logged observations for the whole trust "
        f"horizon, in {trust['level']:.0%} of logged trajectories",
        "trust horizon": f"ends where {number(trust['scale'])} × spread passes that bound" if promised else "none",
        "measured": f"error below that on {trust['band_coverage']:.1%}, horizon kept on {trust['coverage']:.1%} of "
        f"trajectories of {trust['agents']} unseen agents"
        + (f", {strangers:.1%} where nothing was known of them" if strangers is not None else ""),
        "without a look at the spread": f"{trust['horizon']} of {trust['steps']} steps",
    }
    lines = ["## Trust", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["| steps | error, median | error, 90 % | spread, median |", "|---|---|---|---|"]
    for step, (middle, high) in trust["profile"].items():
        lines.append(f"| {step} | {number(middle)} | {number(high)} | {number(trust['spread_profile'].get(step))} |")
    return [*lines, "", "Of one agent: `persim evaluate SIMULATOR --agent 17`.", ""]
