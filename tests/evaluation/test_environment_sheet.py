"""A sheet shows every environment that can be drawn here, and says why another cannot."""

import sys

import numpy as np
import pytest
from PIL import Image

from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import load_model
from persim_gym.evaluation.environment_sheet import environment_sheet, picture_of

PLAIN = [name for name in ("cartpole", "mountaincar", "pendulum", "revenue", "patients") if name in DOMAINS]


@pytest.mark.parametrize("name", PLAIN)
def test_a_picture_shows_something(name):
    picture = picture_of(DOMAINS[name], agent=0)
    assert picture.ndim == 3 and picture.shape[2] == 3 and len(np.unique(picture)) > 2


def test_what_cannot_be_drawn_keeps_its_place_and_says_why(tmp_path, monkeypatch):
    load_model.cache_clear()
    monkeypatch.setitem(sys.modules, "mujoco", None)
    domains = [DOMAINS["cartpole"], DOMAINS["hopper"]]
    failed = environment_sheet(domains, tmp_path / "sheet.png")
    assert list(failed) == ["HeteroHopper-v0"] and "persim-gym[robots]" in failed["HeteroHopper-v0"]
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > sheet.height > 300
    environment_sheet(domains[:1], tmp_path / "sheet.png")  # Ours, so that it may be drawn again.


def test_files_of_others_stay(tmp_path):
    (tmp_path / "sheet.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="was not written by persim"):
        environment_sheet([DOMAINS["cartpole"]], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"is no \.png"):
        environment_sheet([DOMAINS["cartpole"]], tmp_path / "sheet.jpg")
