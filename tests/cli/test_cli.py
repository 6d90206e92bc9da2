"""The command line as a whole: helps show defaults, and a caller's mistake is one line."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import persim_gym
from persim_gym.cli import app, main


@pytest.mark.parametrize(
    ("verb", "default"),
    [
        (["demo"], "[default: 10]"),
        (["train"], "[default: cpu]"),
        (["evaluate"], "[default: 200]"),
        (["plan"], "[default: 20]"),
    ],
)
def test_help_shows_defaults(verb, default):
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0 and default in shown.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "nowhere/at-all-v0"), "known: "),
        (("demo", "--domain", "halfcheetah"), "choose from mountaincar, cartpole"),
        (("demo", "--agents", "one"), "write numbers or ranges with commas between"),
        (("demo", "--agents", "612"), "agent 612 is not in the mountaincar population (500 agents: 0–499)"),
        (("plan", "moonlander", "--truth"), "unknown domain 'moonlander'; known: mountaincar"),
        (("train", "mountaincar/sideways-v0"), "did you mean mountaincar/pure-v0 or mountaincar/random-v0"),
        (("train", "cartpole/random-v0", "--recipe", "secret"), "recipe 'secret' is not one of default, thesis"),
        (("train", "cartpole/random-v0", "--rank", "0"), "rank '0' is neither a positive number nor \"auto\""),
        (("train", "cartpole"), "did you mean cartpole/pure-v0 or cartpole/random-v0"),
        (("evaluate", "cartpole"), "did you mean cartpole/random-v0?"),
        (("evaluate", "./nowhere"), "by name or as a folder with a card.json"),
        (("train", "cartpole/random-v0", "--epochs", "-3"), "'--epochs'"),
        (("train", "--epoch", "3"), "No such option: --epoch"),
        (("trian",), "No such command 'trian'"),
        (("train",), "Missing argument"),
        (("video", "--policy", "nosuch.json"), "no policy nosuch.json; give the agent-<n>.json"),
        (("train", ""), "no dataset ''"),
        (("train", "cartpole/random-v0", "--variant", "foo"), "no variant 'foo'; known: factored"),
        (("train", "cartpole/random-v0", "--memory", "-1"), "memory -1.0 is not positive"),
        (("video", "--tolerance", "nan"), "tolerance nan is negative or no number"),
        (("datasets", "build", "--all", "--domain", "cartpole"), "give dataset ids, or --domain, or --all"),
        (("train", "cartpole/random-v0", "--variant", "unfactorized", "--rank", "auto"), "leave the rank out"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_remedy(words, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["persim", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    shown = capsys.readouterr().err
    line = shown.splitlines()[-1]  # there may be a progress bar before it
    assert line.startswith("persim: ") and said in line and "Traceback" not in shown


def test_the_version_is_told():
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0 and shown.stdout == f"persim_gym {persim_gym.__version__}\n"


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "persim_gym", "--version"], capture_output=True, text=True)
    assert done.stdout == f"persim_gym {persim_gym.__version__}\n"


def test_a_process_ends_with_the_status_and_the_line_of_a_mistake():
    command = [sys.executable, "-m", "persim_gym", "evaluate", "nowhere/at-all-v0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr.startswith("persim: no simulator 'nowhere/at-all-v0', by name or as a folder")
        and done.stderr.count("\n") == 1
    )


def test_help_loads_no_heavy_library():
    """No timing: what is slow to import is loaded by the verb that needs it."""
    code = "import sys; from persim_gym.cli import app; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not {"torch", "stable_baselines3", "minari", "mujoco", "numba", "pandas", "matplotlib", "scipy"} & loaded
