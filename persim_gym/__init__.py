"""Personalized simulators of many different agents, learned from one logged trajectory each.

Importing this package registers its environments with Gymnasium; it loads neither torch, Stable-Baselines3, Minari nor
MuJoCo. What is named here is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium

from persim_gym.envs import DOMAINS
from persim_gym.persim_env.registration import SimulatorSpec
from persim_gym.version import __version__

if TYPE_CHECKING:
    from persim_gym.comparison.compare import compare
    from persim_gym.reports.write import report
    from persim_gym.simulator.registry import list_simulators, load_simulator
    from persim_gym.workflows.calibrate import calibrate
    from persim_gym.workflows.evaluate import evaluate
    from persim_gym.workflows.train import train

__all__ = [
    "DOMAINS",
    "__version__",
    "calibrate",
    "compare",
    "evaluate",
    "list_simulators",
    "load_simulator",
    "report",
    "train",
]

_LAZY = {
    "calibrate": "persim_gym.workflows.calibrate",
    "compare": "persim_gym.comparison.compare",
    "evaluate": "persim_gym.workflows.evaluate",
    "list_simulators": "persim_gym.simulator.registry",
    "load_simulator": "persim_gym.simulator.registry",
    "report": "persim_gym.reports.write",
    "train": "persim_gym.workflows.train",
}
"""Module of each name that is loaded when it is first used."""


def __getattr__(name: str) -> Any:
    """Loads what the front door names."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    """Names of the front door too, which are not loaded yet."""
    return sorted({*globals(), *__all__})


for _domain in DOMAINS.values():
    gymnasium.register(
        id=_domain.env_id,
        entry_point="persim_gym.envs.hetero:HeteroEnv",
        vector_entry_point="persim_gym.envs.hetero:HeteroVectorEnv",
        kwargs={"domain": _domain.name},
        max_episode_steps=_domain.episode_steps,
    )

gymnasium.registry["PersimEnv-v0"] = SimulatorSpec(
    id="PersimEnv-v0",
    entry_point="persim_gym.persim_env.env:PersimEnv",
    vector_entry_point="persim_gym.persim_env.vector:PersimVectorEnv",
)
