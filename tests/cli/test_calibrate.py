"""`persim calibrate`: how far predictions are trusted, measured and said."""

from dataclasses import replace

import pytest
from support.recipes import TINY

from persim_gym.simulator.diagnostics.trust import Trust
from persim_gym.simulator.registry import load_simulator
from persim_gym.workflows.train import train


def test_the_command_line_calibrates_goes_on_after_an_interruption_and_says_what_is_covered(
    fleet, tmp_path, capsys, monkeypatch
):
    from persim_gym.cli import app

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("persim_gym.datasets.of_simulator.load", lambda name, spec: fleet)
    recipe = replace(TINY, epochs=2, polish=True)
    folder = train(
        fleet, name="small", domain="mountaincar", recipe=recipe, out=tmp_path / "small", progress=False
    ).folder
    (folder / "ranks.png").write_bytes(b"a figure")
    weights = load_simulator(str(folder)).card.sha256
    app(["evaluate", str(folder), "--agent", "7"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "transitions of it were seen" in text and "Not measured yet: `persim calibrate` does that" in text
    command = ["calibrate", str(folder), "--bound", "0.5", "--level", "0.8", "--held-out", "12", "--steps", "10"]

    def full(*_):
        raise OSError("disk is full")

    def interrupted(*_):
        raise RuntimeError("out of power")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of power"):
        patch.setattr("persim_gym.simulator.training.trainer.solve_closed_form", interrupted)
        app(command, standalone_mode=False)
    assert len(list((tmp_path / "home" / "training").iterdir())) == 1  # the sibling, trained
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk is full"):
        patch.setattr("persim_gym.simulator.simulator.write_folder", full)
        app(command, standalone_mode=False)
    assert len(list((tmp_path / "home" / "training").iterdir())) == 1  # what was trained is not lost
    app(command, standalone_mode=False)
    assert not list((tmp_path / "home" / "training").iterdir())
    loaded = load_simulator(str(folder))
    assert loaded.card.sha256 == weights and Trust.from_json(loaded.card.trust).bound == 0.5
    app(["evaluate", str(folder), "--agent", "7"], standalone_mode=False)
    text = capsys.readouterr().out
    assert (folder / "ranks.png").read_bytes() == b"a figure"
    monkeypatch.setattr("persim_gym.datasets.of_simulator.load", lambda name, spec: fleet.select(fleet.trajectory < 50))
    for words in (["evaluate", str(folder), "--agent", "7"], command):
        with pytest.raises(ValueError, match="is not what simulator small was trained on .*train again"):
            app(words, standalone_mode=False)
    page, trust = (folder / "README.md").read_text(), Trust.from_json(loaded.card.trust)
    assert (
        f"{trust.band_coverage:.1%}, horizon kept on {trust.coverage:.1%} of trajectories of 12 unseen agents" in page
    )
    assert (
        f"| 1 | {trust.profile['1'][0]:.4g} | {trust.profile['1'][1]:.4g} | {trust.spread_profile['1']:.4g} |" in page
    )
    row = [f"{value:.2g}" for value in (*trust.profile["1"], trust.spread_profile["1"])]
    assert ["1", *row] in [line.split() for line in text.splitlines()]
    said = " ".join(text.split())
    assert "with a probability of 80%" in said and "12 agents" in said and "says nothing of other policies" in said
