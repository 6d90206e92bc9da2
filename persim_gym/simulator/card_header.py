"""What model hubs read of a simulator's card: licence, tags and measured errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from persim_gym.front_matter import LIBRARY, card_fields, front_matter

TAGS = ("model-based-reinforcement-learning", "offline-reinforcement-learning", "personalization", "simulation")


def card_header(card: Mapping[str, Any]) -> str:
    """The header of a card's page.

    Args:
        card: Plain values of a `SimulatorCard`.
    """
    fields = card_fields(card["license"], [*TAGS, *([card["domain"]] if card["domain"] else [])])
    fields |= {"library_name": LIBRARY, "pipeline_tag": "reinforcement-learning"}
    if results := _results(card.get("error", {})):
        fields["metrics"] = sorted({result["type"] for result in results})
        task = {"type": "reinforcement-learning", "name": "prediction of logged trajectories"}
        dataset = {"type": card["dataset"], "name": card["dataset"]}
        fields["model-index"] = [
            {"name": card["name"], "results": [{"task": task, "dataset": dataset, "metrics": results}]}
        ]
    return front_matter(fields)


def _results(error: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Measured errors, each with the words that say what it is of."""
    if not error:
        return []
    said, data = "standard deviations of the logged observations", error["data"]
    rows = [
        ("r_squared", value, f"R² of one step, {column} ({data})")
        for column, value in zip(error["columns"], error["one_step_r2"], strict=True)
    ]
    rows += [
        ("rmse", value, f"RMSE of {step} open-loop steps in {said} ({data})")
        for step, value in zip(error["steps"], error["open_loop"], strict=True)
    ]
    for part in ("later", "strangers"):
        rows += _by_horizon(error.get("by_horizon", {}).get(part), part, said)
    return [{"type": kind, "value": value, "name": name} for kind, value, name in rows if value is not None]


def _by_horizon(errors: Mapping[str, Any] | None, part: str, unit: str) -> Sequence[tuple[str, float | None, str]]:
    """Errors of the simulator itself, the first kind of prediction, on one part of the data that was held out."""
    if not errors:
        return []
    whose = "the last fifth of every trajectory" if part == "later" else "agents that were not trained on"
    means = next(iter(errors["overall"].values()))
    return [
        ("rmse", value, f"RMSE of {step} open-loop steps in {unit} (held out: {whose})")
        for step, value in zip(errors["steps"], means, strict=True)
    ]
