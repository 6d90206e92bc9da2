"""Packages that only some need: what names them, and what is said where one is missing."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from persim_gym.envs.mujoco.physics import load_model
from persim_gym.extras import EXTRAS, MissingExtraError, required, version_of
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
