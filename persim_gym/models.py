"""Every kind of learned model, by name or path: simulators, and what they are compared with."""

from pathlib import Path
from typing import TypeAlias

from persim_gym.baselines.cadm.simulator import CadmSimulator, is_cadm, load_cadm
from persim_gym.simulator.registry import DEFAULT_SIMULATOR, find_simulator, load_simulator
from persim_gym.simulator.simulator import Simulator

LearnedModel: TypeAlias = Simulator | CadmSimulator
"""What environments step, planners roll out and `evaluate` measures."""


def load_learned(name: str | Path = DEFAULT_SIMULATOR, trust: bool = False) -> LearnedModel:
    """Loads a simulator or a context-aware dynamics model; the same files are read once.

    Args:
        name: `<domain>/<policy>-v0`, `<domain>/<policy>-v0-cadm`, or the path of a folder.
        trust: See `load_simulator`.

    Raises:
        UnknownSimulatorError: If there is none.
        ValueError: If it is damaged or of another format.
    """
    folder = find_simulator(name)
    return load_cadm(folder, trust) if is_cadm(folder) else load_simulator(name, trust)
