"""Errors on data that were held out: measured by trainings of their own, kept on the card, and told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from gymnasium import spaces
from support.models import assert_same_weights
from support.recipes import RECIPE, TINY
from support.tank_data import tank_data
from support.training import interrupt_after
from typer.testing import CliRunner

from persim_gym import evaluate
from persim_gym.cli import app
from persim_gym.evaluation.figures import bands_figure
from persim_gym.evaluation.horizon_tables import ALL_COLUMNS
from persim_gym.evaluation.horizons import LINEAR, NO_CHANGE, SIMULATOR, UNPERSONALIZED, HorizonReport
from persim_gym.evaluation.traces import TRACES, read_traces
from persim_gym.labels import Labels
from persim_gym.observation_layout import ObservationLayout
from persim_gym.paths import persim_home
from persim_gym.simulator.registry import load_simulator
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.storage import README
from persim_gym.workflows import train as train_module
from persim_gym.workflows.evaluate import plot_held_out
from persim_gym.workflows.train import train

LABELS = Labels(agents=tuple(f"T-{n:02d}" for n in range(12)), observations=("level", "flow"), units={"level": "m"})
SPEC = EnvironmentSpec(flat_box([-np.inf] * 2, [np.inf] * 2), spaces.Discrete(2), 60, labels=LABELS)
QUICK = {"spec": SPEC, "name": "my/tanks", "recipe": replace(TINY, epochs=2), "progress": False}


@pytest.fixture(scope="module")
def tanks():
    return tank_data(noise=0.01)


@pytest.fixture(scope="module")
def simulator(tanks, tmp_path_factory):
    recipe = replace(RECIPE, epochs=30, polish=True)
    out = tmp_path_factory.mktemp("simulators") / "tanks"
    return train(tanks, **QUICK | {"recipe": recipe}, out=out)


def test_the_card_tells_errors_beside_those_of_simpler_predictions(simulator, tanks):
    report = evaluate(simulator)
    assert isinstance(report, HorizonReport) and report.columns == ("level (m)", "flow") and report.said == ()
    assert (report.later.agents, report.strangers.agents) == (11, 1)
    assert report.later.steps == (1, 2, 4, 8) and report.strangers.steps == (1, 2, 4, 8, 16, 32)
    for errors in report.parts.values():
        assert list(errors.rmse) == list(errors.overall) == [SIMULATOR, NO_CHANGE, LINEAR, UNPERSONALIZED]
        ours, idle, _, shared = errors.overall.values()
        assert ours[-1] < 0.6 * idle[-1] and ours[-1] < 0.8 * shared[-1]
        assert all(len(rows) == len(errors.steps) and len(rows[0]) == 2 for rows in errors.rmse.values())
    unit = np.array(report.unit)
    of_all = np.sqrt(np.mean((np.array(report.later.rmse[NO_CHANGE][0]) / unit) ** 2))
    assert of_all == pytest.approx(report.later.overall[NO_CHANGE][0], rel=1e-3)
    assert simulator.card.transitions == len(tanks) == int(simulator.beliefs.statistics.seen.sum())  # Trained on all.


def test_the_card_survives_a_file_and_is_written_for_people(simulator):
    stored = json.loads(json.dumps(simulator.card.error["by_horizon"]))
    assert HorizonReport.from_json(stored).to_json() == HorizonReport.from_json(stored).to_json()
    text = (simulator.folder / README).read_text()
    assert "Open loop on data that were held out, the last fifth of every trajectory (11 agents)" in text
    assert "| steps | simulator | nothing changes | linear, of each agent | unpersonalized |" in text
    with pytest.raises(ValueError, match="train again"):
        HorizonReport.from_json({**stored, "later": 3})


def test_what_predicts_as_well_is_said(simulator):
    report = evaluate(simulator)
    lines = report.summary
    assert len(lines) == 4 and lines[0].startswith("the last fifth of every trajectory, 1 step: simulator 0.")
    worse = replace(
        report.later, overall={SIMULATOR: (0.1, 0.3), LINEAR: (0.2, 0.3), NO_CHANGE: (None, 0.5)}, steps=(1, 2)
    )
    (line,) = replace(report, later=worse, strangers=None).verdicts
    assert line == (
        f'the last fifth of every trajectory: "{LINEAR}" predicts as well as the simulator or better after 2 steps'
    )


def test_traces_are_of_the_median_and_the_worst_agent_and_can_be_drawn(simulator, tanks, tmp_path):
    median, worst = read_traces(simulator.folder / TRACES)
    report = evaluate(simulator)
    assert (median.which, median.agent) == ("median", report.median) and worst.agent == report.worst != report.median
    assert median.columns == ("level (m)", "flow")
    own = tanks.agent == simulator.agent_number(worst.agent)
    logged = tanks.next_obs[own & (tanks.trajectory % 2 == 0)][-12:]
    np.testing.assert_allclose(worst.logged, logged, rtol=1e-5)
    assert (median.low <= median.predicted).all() and (median.predicted <= median.high).all()
    plot_held_out(simulator, tmp_path / "bands.png")
    assert (tmp_path / "bands.png").read_bytes()[:4] == b"\x89PNG"
    bands_figure([median], "one", tmp_path / "one.png")


def test_without_a_hold_out_there_is_one_training_and_no_report(tanks, home):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 3, KeyboardInterrupt)  # Two epochs are one training.
        plain = train(tanks, **QUICK, holdout=False)
    assert "by_horizon" not in plain.card.error and not (plain.folder / TRACES).exists()
    for asked in (evaluate, lambda s: plot_held_out(s, home / "x.png")):
        with pytest.raises(ValueError, match="without --no-holdout"):
            asked(plain)
    full = train(tanks, **QUICK, force=True)
    assert full.card.error["by_horizon"] and (full.folder / TRACES).exists()
    train(tanks, **QUICK, holdout=False, force=True)
    assert not (full.folder / TRACES).exists()


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_each_of_the_trainings_goes_on_where_it_was_cut_off(tanks, home, epochs):
    whole = train(tanks, **QUICK)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, epochs, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tanks, **QUICK, force=True)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 6 - epochs + 1, KeyboardInterrupt)  # What is done is not done again.
        again = train(tanks, **QUICK, force=True)
    assert_same_weights(whole.model, again.model)
    assert again.card.error == whole.card.error
    assert not list((persim_home() / "training").iterdir())


@pytest.mark.parametrize("variant", ["unfactorized", "unpersonalized"])
def test_other_variants_are_measured_on_agents_that_they_know(tanks, home, variant):
    report = evaluate(train(tanks, **QUICK, variant=variant))
    assert report.strangers is None and report.later.agents == 12
    assert (UNPERSONALIZED in report.later.overall) == (variant != "unpersonalized")


def test_data_that_are_too_few_are_all_trained_on(home):
    few = tank_data(agents=4, episodes=1, steps=4)
    simulator = train(few, **QUICK | {"spec": replace(SPEC, labels=Labels())})
    assert "by_horizon" not in simulator.card.error
    assert int(load_simulator(str(simulator.folder)).beliefs.statistics.seen.sum()) == len(few)


def test_the_command_line_shows_the_report_by_column(simulator, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    words = ["evaluate", str(simulator.folder), "--plot", str(tmp_path / "bands.png")]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.exception
    for text in (ALL_COLUMNS, "level (m)", "flow", "unpersonalized", "11 agents", "this one was then trained on all"):
        assert text in shown.stdout
    assert (tmp_path / "bands.png").stat().st_size > 10_000 and str(evaluate(simulator)).count(": simulator ") == 4
    (tmp_path / "notes.txt").write_text("mine")
    taken = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "notes.txt")])
    assert taken.exit_code and "was not written by persim" in str(taken.exception)


def test_a_card_without_the_report_shows_the_error_on_its_data(simulator, tmp_path):
    error = {name: value for name, value in simulator.card.error.items() if name != "by_horizon"}
    replace(simulator, card=replace(simulator.card, error=error)).save(tmp_path / "old")
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "old")])
    assert shown.exit_code == 0 and "level (m), one step" in shown.stdout


def test_a_rank_that_was_chosen_on_all_data_says_so(tanks, home, monkeypatch):
    monkeypatch.setattr(train_module, "select_rank", lambda setup, *_, **__: (setup, {".csv": home.parent / "r.csv"}))
    (home.parent / "r.csv").write_text("rank")
    report = evaluate(train(tanks, **QUICK, rank="auto"))
    assert report.said == (train_module.RANK_SAW_ALL,) and train_module.RANK_SAW_ALL in str(report)


def test_history_is_known_at_the_start_and_follows_exactly_in_every_kind_of_prediction(home):
    """Without the flow the level alone says too little; with the level before it says all."""
    data = tank_data(agents=12)
    hidden = replace(data, obs=data.obs[:, :1].copy(), next_obs=data.next_obs[:, :1].copy())
    spec = replace(SPEC, observation_space=flat_box([-np.inf], [np.inf]), labels=Labels(observations=("level",)))
    errors = {}
    for history in ("", "level=1,action=1"):
        keywords = {"spec": spec, "name": "my/hidden", "recipe": replace(TINY, epochs=4), "history": history}
        errors[history] = evaluate(train(hidden, **keywords, progress=False, force=True)).later
    ours, longer = errors.values()
    assert longer.rmse[LINEAR][0][0] < 0.05 * ours.rmse[LINEAR][0][0]
    assert longer.rmse[LINEAR][-1][0] < 0.05 * ours.rmse[LINEAR][-1][0] and len(longer.rmse[SIMULATOR][0]) == 1


def test_columns_from_outside_are_taken_as_they_were_logged(home):
    data = tank_data(agents=12)  # The flow is called a column from outside, and the level follows it.
    spec = replace(SPEC, own_layout=ObservationLayout(1, 1))
    simulator = train(data, **QUICK | {"spec": spec})
    report = evaluate(simulator)
    assert report.columns == ("level (m)",)
    assert report.later.rmse[NO_CHANGE][-1][0] > 3 * report.later.rmse[LINEAR][-1][0]
    assert read_traces(simulator.folder / TRACES)[0].columns == ("level (m)",)


def test_static_covariates_of_held_out_agents_are_told_as_well(tanks, home):
    errors = []
    for size in (list(range(12)), None):
        given = {"recipe": replace(RECIPE, epochs=15, polish=True)} | (
            {} if size is None else {"static": {"size": size}}
        )
        errors.append(evaluate(train(tanks, **QUICK | given, force=True)).strangers)
    told, untold = errors
    assert told.rmse[LINEAR] == untold.rmse[LINEAR] and told.rmse[SIMULATOR] != untold.rmse[SIMULATOR]
