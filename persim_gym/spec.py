"""What a simulator is to an environment or a planner: its spaces, time limit and task.

A simulator of one of our domains has the domain's. Any other keeps its own on its card, and its task is either learned
(reward and termination are then two more columns of every prediction) or the user's, referred to as `module:name`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.actions import ActionLayout, ActionSpace, ScoreBox, model_size
from persim_gym.labels import NO_LABELS, Labels
from persim_gym.observation_layout import ObservationLayout
from persim_gym.storage import from_plain
from persim_gym.task import Array, Ends, Task

LEARNED_TASK = "learned"
DOMAIN_TASK = "domain"
_LARGEST = float(np.finfo(np.float32).max)
"""Stands for an infinite bound on a card: JSON has no number for that."""


@dataclass(frozen=True)
class EnvironmentSpec:
    """Spaces, time limit and task.

    Attributes:
        observation_space: Space of one observation, [D].
        action_space: Space of one action: Discrete or MultiDiscrete from 0, a Box [A], or a `ScoreBox` for choices and
            amounts together.
        episode_steps: Time limit (a truncation).
        task: "domain", "learned", or the user's own as `module:name`.
        labels: What agents, observations and actions are called.
        own_layout: What the columns of observations are, where not all of them are learned.
    """

    observation_space: spaces.Box
    action_space: ActionSpace
    episode_steps: int
    task: str = LEARNED_TASK
    labels: Labels = NO_LABELS
    own_layout: ObservationLayout | None = None

    def __post_init__(self) -> None:
        """Checks what a simulator can serve.

        Raises:
            ValueError: If a space is of another kind, or the time limit is not positive.
        """
        observation, action = self.observation_space, self.action_space
        if not isinstance(observation, spaces.Box) or len(observation.shape) != 1:
            raise ValueError(f"observations must be a flat Box, not {observation}")
        if isinstance(action, spaces.Discrete):
            if action.start != 0:
                raise ValueError(f"discrete actions must count from 0, not {action.start}; subtract it from the data")
        elif isinstance(action, spaces.MultiDiscrete):
            if len(action.shape) != 1 or action.start.any():
                raise ValueError(f"several choices must be flat and count from 0, not {action}")
        elif not isinstance(action, spaces.Box) or len(action.shape) != 1:
            raise ValueError(f"actions must be Discrete, MultiDiscrete or a flat Box, not {action}")
        if self.episode_steps < 1:
            raise ValueError(f"episode_steps={self.episode_steps} must be positive")
        if self.layout.width != observation.shape[0]:
            raise ValueError(f"a layout of {self.layout.width} columns, but {observation.shape[0]} observations")
        self.labels.check_sizes(observation.shape[0], self.n_actions, self.action_dim)

    @property
    def layout(self) -> ObservationLayout:
        """What the columns of observations are: learned, all of them, where nothing else is said."""
        return self.own_layout or ObservationLayout(self.observation_space.shape[0])

    @property
    def n_actions(self) -> int:
        """Number of discrete actions; 0 for continuous ones, and for several choices."""
        return int(self.action_space.n) if isinstance(self.action_space, spaces.Discrete) else 0

    @property
    def action_dim(self) -> int:
        """Numbers A that a model sees of an action; 0 for discrete ones."""
        return model_size(self.action_space)

    @property
    def bounds(self) -> tuple[Any, Any] | None:
        """Lowest and highest observations, [D] each, infinite where there is no bound; None if there is none at all."""
        low, high = (_with_infinite(b) for b in (self.observation_space.low, self.observation_space.high))
        return (low, high) if np.isfinite([low, high]).any() else None

    @property
    def predicted_names(self) -> list[str]:
        """What observations, reward and end are called, with their units, [D + 2]."""
        return self.labels.predicted(self.observation_space.shape[0])

    def to_json(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {
            "observation": _plain(self.observation_space),
            "action": _plain(self.action_space),
            "episode_steps": self.episode_steps,
            "task": self.task,
            **({"labels": asdict(self.labels)} if self.labels else {}),
            **({"layout": self.own_layout.to_json()} if self.own_layout else {}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "EnvironmentSpec":
        """The interface of a card.

        Raises:
            ValueError: If a key is missing or a value is of another kind.
        """
        try:
            observation, action = _space(stored["observation"]), _space(stored["action"])
            steps, task = int(stored["episode_steps"]), str(stored["task"])
            labels = from_plain(Labels, stored.get("labels", {}))
            layout = ObservationLayout.from_json(stored["layout"]) if "layout" in stored else None
            return cls(observation, action, steps, task, labels, layout)  # type: ignore[arg-type]
        except (KeyError, TypeError, AssertionError) as error:
            raise ValueError(f"the interface on the card is not one of this version ({error!r})") from error


class OfEnvironment:
    """What has an `EnvironmentSpec`, and tells its parts."""

    @property
    def spec(self) -> EnvironmentSpec:
        """Its spaces, time limit and kind of task."""
        raise NotImplementedError

    @property
    def observation_space(self) -> spaces.Box:
        """Space of one observation, [D]."""
        return self.spec.observation_space

    @property
    def action_space(self) -> ActionSpace:
        """Space of one action: Discrete, MultiDiscrete, or Box [A]."""
        return self.spec.action_space

    @property
    def episode_steps(self) -> int:
        """Time limit."""
        return self.spec.episode_steps

    @property
    def n_agents(self) -> int:
        """Number of agents N."""
        raise NotImplementedError

    @property
    def labels(self) -> Labels:
        """What its agents, observations and actions are called."""
        return self.spec.labels

    def integer_columns(self) -> tuple[int, ...]:
        """Components of an observation that are whole numbers."""
        return self.labels.integer_columns

    def agent_number(self, agent: int | str) -> int:
        """The number of an agent that is given by name or number; see `Labels.agent_number`.

        Raises:
            ValueError: If no agent has the name.
        """
        return self.labels.agent_number(agent, self.n_agents)

    def agent_name(self, number: int) -> str:
        """What an agent is called: its name, else its number."""
        return self.labels.agent_name(number)


def flat_box(low: Any, high: Any) -> spaces.Box:
    """A flat float32 Box; bounds that float32 does not pass become infinite."""
    return spaces.Box(_with_infinite(np.ravel(low)), _with_infinite(np.ravel(high)), dtype=np.float32)


def _with_infinite(bounds: Any) -> NDArray[np.float32]:
    """Bounds as float32, infinite where they are the largest number or more."""
    wide = np.asarray(bounds, dtype=np.float64)
    return np.where(np.abs(wide) >= _LARGEST, np.copysign(np.inf, wide), wide).astype(np.float32)


def _plain(space: spaces.Space[Any]) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"n": int(space.n)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"nvec": space.nvec.tolist()}
    assert isinstance(space, spaces.Box)
    low, high = (b.clip(-_LARGEST, _LARGEST).tolist() for b in (space.low, space.high))
    parts = {"parts": list(space.layout.sizes)} if isinstance(space, ScoreBox) else {}
    return {"low": low, "high": high, "shape": list(space.shape), **parts}


def _space(stored: Mapping[str, Any]) -> spaces.Space[Any]:
    if "n" in stored:
        return spaces.Discrete(int(stored["n"]))
    if "nvec" in stored:
        return ActionLayout(tuple(map(int, stored["nvec"]))).space()
    low, high = (_with_infinite(stored[side]).reshape(stored["shape"]) for side in ("low", "high"))
    if "parts" in stored:
        return checked_parts(stored["parts"], low.shape[0]).space(low, high)
    return spaces.Box(low, high, dtype=np.float32)


def checked_parts(sizes: Sequence[int], width: int) -> ActionLayout:
    """The layout of actions that a file holds.

    Raises:
        ValueError: If it is not one of so many components.
    """
    layout = ActionLayout(tuple(map(int, sizes)))
    if layout.size != width:
        raise ValueError(f"actions of {width} numbers have parts {list(sizes)}, which are {layout.size}")
    return layout


def learned_task(obs_dim: int) -> Task:
    """The task whose reward and termination are the columns D and D + 1 of a prediction."""
    return Task(partial(_predicted_reward, obs_dim), Ends("all", ((obs_dim + 1, ">", 0.5),)))


def _predicted_reward(obs_dim: int, obs: Array, action: Array, next_obs: Array) -> Array:
    return next_obs[..., obs_dim]


def task_at(reference: str) -> Task:
    """The task that `module:name` refers to.

    Raises:
        ValueError: If there is no such module or name, or it is not a task.
    """
    module, _, name = reference.partition(":")
    advice = "write module:name of a persim_gym.task.Task that Python can import from here (see PYTHONPATH)"
    if not module or not name:
        raise ValueError(f"task {reference!r} names no task; {advice}")
    try:
        found = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:  # The user's own module may raise anything, and end the process.
        reason = str(error) if isinstance(error, Exception) else repr(error)
        raise ValueError(f"task {reference!r} cannot be imported ({' '.join(reason.split())}); {advice}") from error
    if not isinstance(found, Task):
        raise ValueError(f"task {reference!r} is a {type(found).__name__}, not a persim_gym.task.Task; {advice}")
    return found
