"""Without extras everything of the first hour works, and what needs one names it; run by .ci/run in an empty venv."""

import importlib.util
import subprocess
import sys

import pytest

EXTRAS = (
    "stable_baselines3",
    "mujoco",
    "pyarrow",
    "imageio_ffmpeg",
    "tensorboard",
    "huggingface_hub",
    "onnxruntime",
    "sklearn",
    "ray",
)
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(module) for module in EXTRAS), reason="some extra is installed here"
)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Nothing of the user's is read or written."""
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.chdir(tmp_path)


def persim(*words):
    return subprocess.run([sys.executable, "-m", "persim_gym", *words], capture_output=True, text=True)


@pytest.mark.parametrize(
    "words",
    [
        "datasets build persim/cartpole/random-v0",
        "train cartpole/random-v0 --epochs 2 --out mine",
        "evaluate cartpole/random-v0 --agents 0 --episodes 2 --plot a.png",
        "plan cartpole/random-v0 --agents 0 --episodes 1 --workers 1",
        "compare cartpole/random-v0 --agents 0 --policy left=constant:0 --policy any=random",
        "video cartpole/random-v0 --steps 5 --agent 0",
        "datasets card persim/cartpole/random-v0",
        "doctor",
    ],
)
def test_the_first_hour_needs_no_extra(words):
    done = persim(*words.split())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("datasets build persim/halfcheetah/random-v0", "robots"),
        ("import table.csv --name my/table-v0 --agent agent --time t --obs x --action a", "tables"),
        ("train cartpole/random-v0 --epochs 2 --out mine --tensorboard curves", "tensorboard"),
        ("train-policy cartpole/random-v0 --agent 0 --steps 512", "sb3"),
        ("datasets train-loggers --domain cartpole --name test", "sb3"),
        ("video cartpole/random-v0 --steps 5 --agent 0 --out a.mp4", "video"),
        ("share pull somebody/poles", "hub"),
        ("plan cartpole/random-v0 --agents 0 --episodes 1 --backend ray", "ray"),
    ],
)
def test_what_needs_an_extra_names_it_in_one_line(words, extra, tmp_path):
    (tmp_path / "table.csv").write_text("agent,t,x,a\n0,0,1.0,0\n0,1,2.0,1\n0,2,2.0,1\n", encoding="utf-8")
    done = persim(*words.split())
    assert done.returncode == 2
    assert f"persim-gym[{extra}]" in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
