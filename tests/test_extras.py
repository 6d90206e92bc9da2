"""Packages that only some need: what names them, and what is said where one is missing."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from persim_gym.envs.mujoco.physics import load_model
from persim_gym.extras import EXTRAS, MissingExtraError, brought_by, required, version_of
from persim_gym.workflows.film import check_film

ROOT = Path(__file__).parent.parent
ROBOTS = ("Ant", "HalfCheetah", "Hopper", "SlimHumanoid", "Walker2d")


def test_all_brings_every_extra_that_the_messages_name():
    tomllib = pytest.importorskip("tomllib")  # Python 3.10 has none.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (everything,) = extras["all"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == set(EXTRAS)
    for extra, package in EXTRAS.items():
        assert package in " ".join(extras[extra]).replace("_", "-"), extra


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_missing_is_said_in_one_line(extra):
    with pytest.raises(MissingExtraError) as caught:
        required("persim_gym.nowhere", extra, "this needs that")
    assert str(caught.value).startswith(f"this needs that: pip install 'persim-gym[{extra}]'")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ImportError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_robot_without_mujoco_names_its_extra(robot, monkeypatch):
    load_model.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(MissingExtraError, match=r"robots need MuJoCo: pip install 'persim-gym\[robots\]'"):
        gym.make(f"persim_gym:Hetero{robot}-v0", agent=0).reset(seed=0)


def test_films_of_type_mp4_name_their_extra_and_gifs_need_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setitem(sys.modules, "imageio", None)
    with pytest.raises(ValueError, match=r"pip install 'persim-gym\[video\]'"):
        check_film(tmp_path / "film.mp4")
    check_film(tmp_path / "film.gif")


def test_versions_are_those_of_the_installation():
    assert version_of("numpy") == np.__version__
    assert version_of("persim-gym-nowhere") is None


WITHOUT_SB3 = """
import sys
sys.modules["stable_baselines3"] = None
import persim_gym.comparison.candidates, persim_gym.wrappers, persim_gym.workflows.export, persim_gym.workflows.film
from importlib import import_module
from persim_gym.extras import MissingExtraError
needing = "policies policies.actor sb3 wrappers.agent_vec_env comparison.sb3_zip datasets.behavior.train"
for module in needing.split():
    try:
        import_module(f"persim_gym.{module}")
    except MissingExtraError as error:
        assert "pip install 'persim-gym[sb3]'" in str(error), error
    else:
        raise SystemExit(f"{module} says nothing")
print("named")
"""


def test_what_builds_on_stable_baselines3_names_its_extra_and_the_rest_does_without():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SB3], capture_output=True, text=True)
    assert done.stdout.strip() == "named", done.stderr


def test_another_missing_module_is_not_blamed_on_the_extra():
    with pytest.raises(ModuleNotFoundError, match="persim_gym.nowhere"), brought_by("sb3", "this needs that"):
        import_module("persim_gym.nowhere")
