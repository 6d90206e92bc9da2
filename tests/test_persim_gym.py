"""The front door: what importing the package loads, and what it names."""

import importlib
import subprocess
import sys

import pytest

import persim_gym

HEAVY = {"torch", "stable_baselines3", "minari", "mujoco", "numba", "pandas", "matplotlib"}
DOOR = ("train", "load_simulator", "list_simulators", "evaluate", "calibrate")
IMPORT = """
import sys
import gymnasium
before = set(sys.modules)
import persim_gym
loaded = {name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names}
print(*sorted({".".join(name.split(".")[:2]) for name in loaded}))
"""


def output_of(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_the_environments_and_no_other_library():
    """No timing: a fifth of the seconds that Gymnasium itself takes, as long as nothing else is loaded."""
    parts = {"persim_gym", "persim_gym.envs", "persim_gym.history", "persim_gym.task", "persim_gym.version"}
    assert set(output_of(IMPORT)) == {"gymnasium.envs", *parts}


def test_what_the_front_door_names_is_known_before_it_is_loaded():
    code = "import persim_gym, sys; print(*dir(persim_gym)); print(*sys.modules)"
    said = set(output_of(code))
    assert {*DOOR, "DOMAINS", "__version__"} <= said and not HEAVY & said


def test_listing_simulators_loads_no_more_than_it_takes():
    code = "import sys; from persim_gym import list_simulators; print(*list_simulators()); print(*sys.modules)"
    said = set(output_of(code))
    assert {"cartpole/random-v0", "mountaincar/random-v0"} <= said
    assert not {"stable_baselines3", "minari", "mujoco"} & said


@pytest.mark.parametrize("name", DOOR)
def test_the_front_door_gives_the_functions_themselves(name):
    found = getattr(persim_gym, name)
    assert callable(found) and found.__name__ == name and found.__doc__
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'persim_gym' has no attribute 'simulate'"):
        persim_gym.simulate  # noqa: B018
    with pytest.raises(ImportError):
        from persim_gym import simulate  # noqa: F401
    assert not hasattr(persim_gym, "__path_to_nowhere__")
