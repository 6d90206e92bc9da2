"""What a card names is imported only for a user who named it too, or who said so."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest
from support.recipes import TINY
from support.simulators import own_simulator, save_model

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.trusted_tasks import TRUSTED_TASKS_FILE, TRUSTED_TASKS_VARIABLE
from persim_gym.spec import EnvironmentSpec
from persim_gym.workflows.train import train

pytestmark = pytest.mark.usefixtures("home")
HELPER = """
import os
from persim_gym.task import Task
open(os.path.join(os.path.dirname(__file__), "imported"), "w").close()
task = Task(lambda obs, action, next_obs: next_obs[..., 0], lambda next_obs: next_obs[..., 0] > 99)
"""


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A folder on Python's path with a module that leaves a sign of its import."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "helper_of_others.py").write_text(HELPER)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "helper_of_others", raising=False)
    yield tmp_path / "code"
    sys.modules.pop("helper_of_others", None)


@pytest.fixture
def others(helper, tmp_path, car_model, cars):
    """A simulator from someone else, whose card names the module."""
    domain = DOMAINS["mountaincar"]
    spec = EnvironmentSpec(domain.observation_space, domain.action_space, 20, "helper_of_others:task")
    folder = save_model(car_model, name="their/cars-v0", domain="mountaincar", data=cars, recipe=TINY, spec=spec,
                        folder=tmp_path / "theirs")  # fmt: skip
    return str(folder)


def test_nothing_is_imported_for_a_user_who_did_not_ask(others, helper, home):
    said = (
        rf"^simulator their/cars-v0 would import module 'helper_of_others' of {helper}/helper_of_others.py for its "
        rf"task 'helper_of_others:task', which is none of yours; .*trust=True \(--trust-task\), or .* to {home}/"
    )
    for load in (
        lambda: load_simulator(others),
        lambda: read_simulator(Path(others)).task,
        lambda: gym.make("persim_gym:PersimEnv-v0", simulator=others),
        lambda: gym.make_vec("persim_gym:PersimEnv-v0", num_envs=2, simulator=others),
        lambda: make_vec_env(agent=0, n_envs=2, simulator=others),
        lambda: app(["evaluate", others], standalone_mode=False),
    ):
        with pytest.raises(ValueError, match=said):
            load()
    assert not (helper / "imported").exists() and "helper_of_others" not in sys.modules


@pytest.mark.parametrize(
    "load",
    [
        lambda name: load_simulator(name, trust=True),
        lambda name: gym.make("persim_gym:PersimEnv-v0", simulator=name, trust=True),
        lambda name: gym.make_vec("persim_gym:PersimEnv-v0", num_envs=2, simulator=name, trust=True),
        lambda name: make_vec_env(agent=0, n_envs=2, simulator=name, trust=True),
    ],
    ids=["load_simulator", "make", "make_vec", "make_vec_env"],
)
def test_who_trusts_a_simulator_gets_its_task(load, others, helper):
    load(others)
    assert load_simulator(others).task.terminated.__module__ == "helper_of_others" and (helper / "imported").exists()


def test_a_line_of_the_users_file_is_trust(others, home):
    home.mkdir()
    (home / TRUSTED_TASKS_FILE).write_text("mine:task\nhelper_of_others:task\n")
    assert load_simulator(others).task
    (home / TRUSTED_TASKS_FILE).write_text("helper_of_others:tas\nhelper_of_others\n")
    with pytest.raises(ValueError, match="is none of yours"):
        load_simulator(others)
    (home / TRUSTED_TASKS_FILE).write_bytes(b"\xff")
    with pytest.raises(ValueError, match=f"^{home}/{TRUSTED_TASKS_FILE} cannot be read .*; remove it"):
        load_simulator(others)


def test_processes_that_are_started_trust_what_this_one_does(others, helper):
    load_simulator(others, trust=True)
    code = f"from persim_gym import load_simulator; load_simulator({others!r}).task"
    path = os.pathsep.join([str(helper), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}).returncode == 0


def test_who_trains_with_a_task_trusts_it_from_then_on(helper, cars, home, capsys, monkeypatch):
    keywords = {"name": "my/cars-v0", "domain": "mountaincar", "task": "helper_of_others:task", "progress": False}
    folder = train(cars, recipe=TINY, **keywords).folder
    said = "persim_gym: simulators whose card names the task helper_of_others:task import it from now on"
    assert said in capsys.readouterr().err
    assert (home / TRUSTED_TASKS_FILE).read_text() == "helper_of_others:task\n"
    monkeypatch.setenv(TRUSTED_TASKS_VARIABLE, "")  # as another process of this user
    assert load_simulator(str(folder)).task
    train(cars, recipe=replace(TINY, epochs=1), force=True, **keywords)
    assert "from now on" not in capsys.readouterr().err


def test_a_home_that_cannot_be_written_does_not_stop_a_training(helper, cars, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr("persim_gym.simulator.trusted_tasks.persim_home", lambda: tmp_path / "file" / "home")
    keywords = {"domain": "mountaincar", "task": "helper_of_others:task", "progress": False, "out": tmp_path / "out"}
    assert train(cars, recipe=TINY, name="my/cars-v0", **keywords).task
    assert "import it until this process ends" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "import sys; sys.exit()", "exit('bye')"])
def test_a_module_that_ends_the_process_is_an_error_of_one_line(end, others, helper):
    (helper / "helper_of_others.py").write_text(end)
    with pytest.raises(ValueError, match=r"^task 'helper_of_others:task' cannot be imported \(SystemExit[^\n]*$"):
        _ = load_simulator(others, trust=True).task


def test_learned_tasks_and_those_of_domains_need_no_trust(tmp_path):
    assert load_simulator(str(own_simulator(tmp_path / "learned", "cartpole"))).task
    assert load_simulator("mountaincar/random-v0").task
