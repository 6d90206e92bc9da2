"""Planners by the names that the command line and tables have for them."""

from dataclasses import fields
from typing import Any

from gymnasium import spaces

from persim_gym.planning.base import Planner
from persim_gym.planning.categorical_cem import CategoricalCEM
from persim_gym.planning.cem import CEM
from persim_gym.planning.icem import ICEM
from persim_gym.planning.mppi import MPPI
from persim_gym.planning.random_shooting import RandomShooting
from persim_gym.planning.searched import searched_actions

DISCRETE: dict[str, type[Planner]] = {"shooting": RandomShooting, "categorical-cem": CategoricalCEM}
"""Of choices."""
CONTINUOUS: dict[str, type[Planner]] = {"cem": CEM, "icem": ICEM, "mppi": MPPI}
"""Of numbers."""
PLANNERS = DISCRETE | CONTINUOUS


def planner_of(space: Any, whose: str, name: str = "", **sizes: Any) -> Planner:
    """A planner of an action space.

    Args:
        space: The space.
        whose: Whose actions these are, for messages.
        name: A key of `PLANNERS`, or empty for the thesis's: the first of `DISCRETE` or of `CONTINUOUS`.
        **sizes: Fields of the planner; those that are None keep their default.

    Raises:
        ValueError: If the planner does not exist, has no such size, or plans no such actions.
    """
    fitting = DISCRETE if isinstance(searched_actions(space).space, spaces.Discrete) else CONTINUOUS
    name = name or next(iter(fitting))
    if name not in fitting:
        verdict = "does not plan" if name in PLANNERS else "is none that plans"
        raise ValueError(f"planner {name!r} {verdict} the actions of {whose}; take one of {', '.join(fitting)}")
    given = {key: value for key, value in sizes.items() if value is not None}
    known = {f.name for f in fields(PLANNERS[name])}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"planner {name} has no {', '.join(unknown)}; its sizes: {', '.join(sorted(known))}")
    return fitting[name](**given)


def planner_label(planner: Planner) -> str:
    """A planner's name and the fields that are not its defaults, "cem candidates=100 horizon=20"."""
    kind, values = type(planner), vars(planner)
    name = next((name for name, known in PLANNERS.items() if known is kind), kind.__name__)
    changed = [f"{f.name}={values[f.name]}" for f in fields(planner) if values[f.name] != f.default]
    return " ".join([name, *(text.replace(" ", "") for text in changed)])
