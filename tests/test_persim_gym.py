"""The front door: what importing the package loads, and what it names."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import persim_gym

HEAVY = {"torch", "stable_baselines3", "minari", "mujoco", "numba", "pandas", "matplotlib"}
DOOR = ("train", "load_simulator", "list_simulators", "evaluate", "calibrate", "report")
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
    parts = {"envs", "extras", "history", "persim_env", "task", "version"}
    assert set(output_of(IMPORT)) == {"gymnasium.envs", "persim_gym", *(f"persim_gym.{part}" for part in parts)}


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


def test_paths_may_be_text(tmp_path, monkeypatch):
    """Wherever a file or a folder is named; a path that begins with a dot or the root is never a name."""
    from persim_gym import evaluate, load_simulator
    from persim_gym.planning import RandomShooting
    from persim_gym.policies import PolicyTraining, load_policy, run_training
    from persim_gym.workflows.film import film
    from persim_gym.workflows.plan import PlanSettings, plan_returns

    monkeypatch.chdir(tmp_path)
    load_simulator("cartpole/random-v0").save("mine")
    assert load_simulator("./mine").folder == load_simulator(Path("mine")).folder == tmp_path / "mine"
    assert list(evaluate(Path("mine"), [3], episodes=2)) == [3]
    film(3, "./mine", "film.gif", steps=2)
    quick = {"n_steps": 16, "n_epochs": 1, "batch_size": 64}
    training = PolicyTraining(3, simulator="./mine", steps=64, n_envs=4, hyperparameters=quick)
    monkeypatch.setattr("persim_gym.policies.train.TESTED_EPISODES", 2)
    monkeypatch.setattr("persim_gym.policies.train.JUDGED_EPISODES", 2)
    run_training(training, "out", progress=False)
    assert load_policy("out/agent-3.json").num_timesteps >= 0
    settings = PlanSettings("cartpole", "true", RandomShooting(4, 3), steps=2)
    monkeypatch.setattr("persim_gym.workflows.plan.run_jobs", lambda *args, **keywords: [])
    assert plan_returns(settings, "", [3], 1, "rows.csv", progress=False)[3].size == 0
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "film.gif", "out", "rows.csv"}
