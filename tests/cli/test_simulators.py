"""`persim simulators`, and what is said when one hides another."""

import io
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from persim_gym import load_simulator
from persim_gym.cli import app, main
from persim_gym.cli.output import say_simulator
from persim_gym.paths import ASSETS

NAME = "cartpole/random-v0"


@pytest.fixture
def own(monkeypatch, tmp_path):
    """A simulator of the user's own that hides a bundled one, and one that hides none."""
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path))
    bundled = load_simulator(NAME)
    bundled.save(tmp_path / "simulators" / NAME)
    replace(bundled, card=replace(bundled.card, name="mine/carts-v0")).save(tmp_path / "simulators" / "mine/carts-v0")
    return tmp_path / "simulators" / NAME


def run(*words, **keywords):
    return CliRunner().invoke(app, ["simulators", *words], **keywords)


def test_the_list_says_what_a_name_means_and_what_it_hides(own):
    rows = {line.split()[0]: line for line in run("list").stdout.splitlines()}
    assert "yours, hides bundled" in rows[NAME] and " yours " in rows["mine/carts-v0"]
    assert " bundled " in rows["mountaincar/random-v0"]


def test_a_damaged_simulator_is_listed_as_such(own):
    (own / "weights.safetensors").write_bytes(b"")
    assert "damaged" in run("list").stdout


def test_a_simulator_that_hides_a_bundled_one_says_how_to_undo_that(own, capsys):
    say_simulator(own, "persim plan {}")
    said = capsys.readouterr().out
    assert f"`persim simulators rm {NAME}` undoes that" in said and f"next: persim plan {NAME}" in said
    say_simulator(own.parent.parent / "mine/carts-v0")
    assert "undoes" not in capsys.readouterr().out


def test_show_tells_the_card_and_the_place(own):
    shown = run("show", NAME).stdout
    assert f"# Simulator {NAME}" in shown and str(own) in shown and f"hides the bundled {NAME}" in shown
    assert "(bundled)" in run("show", "mountaincar/random-v0").stdout


def test_what_is_removed_gives_the_name_back_to_the_bundled_one(own):
    assert run("rm", NAME, input="n\n").exit_code == 0 and own.exists()
    said = run("rm", NAME, "--force").stdout
    assert "is the bundled one again" in said and not own.exists()
    assert load_simulator(NAME).folder.is_relative_to(ASSETS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mountaincar/random-v0", "is bundled with persim_gym and stays"),
        ("carts", "did you mean mine/carts-v0?"),
        ("../x", "is no name of a simulator"),
    ],
)
def test_only_ones_own_can_be_removed(own, name, said):
    assert said in str(run("rm", name, "--force").exception)


def test_without_an_answer_nothing_is_removed(own, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["persim", "simulators", "rm", NAME])
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1 and own.exists()
    assert "nobody answered, so that nothing was done; --force does not ask" in capsys.readouterr().err
