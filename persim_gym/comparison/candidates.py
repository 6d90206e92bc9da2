"""Candidate policies, by what a user writes for them."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from persim_gym.baselines.registry import load_baseline
from persim_gym.comparison.acting import Acting, Acts, check_spaces
from persim_gym.comparison.setting import Setting
from persim_gym.evaluation.acting import Policy, RandomPolicy
from persim_gym.onnx_files import OnnxPolicy
from persim_gym.planning import MPC
from persim_gym.planning.by_name import planner_of
from persim_gym.storage import CARD
from persim_gym.workflows.own.returns import ClonedPolicy, ConstantPolicy, given_name

Given: TypeAlias = str | Path | Policy
"""A candidate as a user gives it: words, a file, or a policy."""

LOGGED = "logged"
"""The behaviour of the agent's own log: what it did at one of its five nearest logged observations, at random."""
WAYS = (
    "a policy folder or agent-<n>.json of `persim train-policy`, a folder of `persim baseline`, a .zip of "
    "Stable-Baselines3, a .onnx file, module:name, mpc, mpc:PLANNER, constant:ACTION, random or logged"
)


class Candidate(NamedTuple):
    """A policy to compare.

    Attributes:
        name: What it is called.
        make: Makes it for an agent, of (number of the agent, seed).
    """

    name: str
    make: Callable[[int, int], Policy]

    def acting(self, setting: Setting, agent: int, seed: int) -> Acting:
        """A new one, whose actions are checked.

        Raises:
            ValueError: If there is none for this agent.
        """
        try:
            policy = self.make(agent, seed)
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"candidate {self.name}: {' '.join(str(error).split())}") from error
        return Acting(policy, self.name, setting.model.spec)


def find_candidates(given: Mapping[str, Given], setting: Setting, trust: bool = False) -> list[Candidate]:
    """Candidates by name.

    Args:
        given: What each is.
        setting: Where they act.
        trust: Whether files that hold pickles are read.

    Raises:
        ValueError: If one does not exist, or is not trusted.
    """
    return [Candidate(name, _maker(name, one, setting, trust)) for name, one in given.items()]


def _maker(name: str, given: Given, setting: Setting, trust: bool) -> Callable[[int, int], Policy]:
    if not isinstance(given, str | Path):
        return lambda agent, seed: given
    text = str(given)
    head, _, rest = text.partition(":")
    space = setting.model.action_space
    if text == "random":
        return lambda agent, seed: RandomPolicy(space, seed)
    if text == LOGGED:
        return lambda agent, seed: ClonedPolicy(setting.own(agent), agent, seed)
    if head == "constant":
        action = constant_action(name, rest, setting)
        return lambda agent, seed: ConstantPolicy(action)
    if head == "mpc":
        return _planning(name, rest, setting)
    path = Path(text).expanduser()
    if path.is_dir():
        return lambda agent, seed: _of_folder(path, agent, setting)
    if path.is_file():
        return _file_maker(path, setting, trust)
    if rest and path.suffix not in (".zip", ".onnx", ".json"):
        return _imported(name, head, rest, setting)
    raise ValueError(f"candidate {name}: there is no {text}; give {WAYS}")


def _file_maker(path: Path, setting: Setting, trust: bool) -> Callable[[int, int], Policy]:
    if path.suffix == ".onnx":
        return lambda agent, seed: OnnxPolicy(path)
    if path.suffix == ".zip":
        from persim_gym.comparison.sb3_zip import load_zip  # Stable-Baselines3 is an extra.

        return lambda agent, seed: load_zip(path, setting.model.spec, trust)
    return lambda agent, seed: _trained(path, setting)


def constant_action(name: str, text: str, setting: Setting) -> Any:
    """The action of `constant:ACTION`: a choice by number or name, or numbers with commas between.

    Raises:
        ValueError: If it is none of the simulator's.
    """
    space, choices = setting.model.action_space, setting.model.labels.choices
    if text in choices:
        return choices.index(text)
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    action: Any = np.array(numbers, dtype=np.float32 if isinstance(space, spaces.Box) else np.int64)
    whole = isinstance(space, spaces.Box) or all(number.is_integer() for number in numbers)
    if isinstance(space, spaces.Discrete) and len(numbers) == 1:
        action = action[0]
    if not numbers or not whole or not space.contains(action):
        named = f" or one of {', '.join(choices)}" if choices else ""
        raise ValueError(f"candidate {name}: {text!r} is no action in {space}; write constant:ACTION, numbers{named}")
    return action


def _planning(name: str, text: str, setting: Setting) -> Callable[[int, int], Policy]:
    """MPC in the simulator, of `PLANNER:size=number:…`; every part may be left out."""
    model, domain = setting.model, setting.domain
    parts = [part for part in text.split(":") if part]
    planner = parts.pop(0) if parts and "=" not in parts[0] else ""
    sizes = dict[str, float]()
    for part in parts:
        size, _, number = part.partition("=")
        try:
            sizes[size] = int(number) if number.isdecimal() else float(number)
        except ValueError:
            raise ValueError(f"candidate {name}: {part!r} is no size=number, such as candidates=100") from None
    try:
        search = planner_of(model.action_space, model.card.name, planner, **sizes)
    except ValueError as error:
        raise ValueError(f"candidate {name}: {error}") from error
    bonus = domain.peak_bonus if domain is not None else None

    def make(agent: int, seed: int) -> Policy:
        dynamics = model.dynamics(given_name(model, agent))
        return MPC(dynamics, model.task, model.action_space, planner=search, bonus=bonus, seed=seed)

    return make


def _of_folder(folder: Path, agent: int, setting: Setting) -> Policy:
    """The policy of an agent in a folder: its own where there is one an agent."""
    if (folder / f"agent-{agent}.json").is_file():
        return _trained(folder / f"agent-{agent}.json", setting)
    own = folder / f"agent-{agent}"
    home = folder if (folder / CARD).is_file() else own
    if not (home / CARD).is_file():
        others = sorted({path.stem for path in folder.glob("agent-*")})
        held = f"it has {', '.join(others)}, which can be given by their own paths" if others else f"give {WAYS}"
        raise ValueError(f"{folder} holds no policy of agent {agent}; {held}")
    policy = load_baseline(home)
    check_spaces(policy.spec.observation_space, policy.spec.action_space, setting.model.spec)
    return policy


def _trained(path: Path, setting: Setting) -> Policy:
    from persim_gym.policies import load_policy  # Stable-Baselines3 is an extra.

    algorithm = load_policy(path)
    check_spaces(algorithm.observation_space, algorithm.action_space, setting.model.spec)
    policy: Policy = algorithm
    return policy


def _imported(name: str, module: str, attribute: str, setting: Setting) -> Callable[[int, int], Policy]:
    """What `module:name` refers to: a policy, or a function that makes one of an agent's environment."""
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # The user's own module may raise anything.
        reason = " ".join(str(error).split())
        raise ValueError(
            f"candidate {name}: {module}:{attribute} cannot be imported ({reason}); name a module that "
            "Python finds: PYTHONPATH=. adds those of this folder"
        ) from error
    if isinstance(found, Acts):
        policy = found
        return lambda agent, seed: policy
    if not callable(found):
        raise ValueError(f"candidate {name}: {module}:{attribute} is neither a policy nor a function")

    def make(agent: int, seed: int) -> Policy:
        env = gym.make(
            "persim_gym:PersimEnv-v0",
            simulator=setting.folder,
            agent=given_name(setting.model, agent),
            starts="domain" if setting.domain is not None else "logged",
        )
        try:
            made = found(env)
        except Exception as error:  # Likewise.
            raise ValueError(f"{module}:{attribute} made no policy ({error!r})") from error
        if not isinstance(made, Acts):
            raise ValueError(f"{module}:{attribute} returned {type(made).__name__}, which has no predict")
        return made

    return make
