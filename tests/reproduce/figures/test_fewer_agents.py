"""Lines are means over the same agents, ours over trials, and the thesis's without what is known to be wrong."""

import csv

import matplotlib.image
import numpy as np
import pytest
from support.made_up_results import made_up

from persim_gym.evaluation.published import published_error, published_return
from persim_gym.reproduce.figures import fewer_agents as module
from persim_gym.reproduce.figures.fewer_agents import fewer_agents_figure, panel_points, thesis_points
from persim_gym.reproduce.figures.style import COLORS
from persim_gym.reproduce.figures.trials import by_place
from persim_gym.reproduce.protocol import METHODS

FIVE = list("01234")


def points_of(rows, domain="mountaincar", metric="rmse"):
    """Our points, by method and number of agents in the data."""
    points = panel_points(by_place(rows, metric), domain, metric)
    return {(p.method, p.n_agents): p for p in points if p.source == "ours"}


def test_a_point_is_the_mean_over_trials_of_means_over_agents():
    values = {0: (1.0, 3.0), 1: (2.0, 8.0), 2: (4.0, 4.0)}  # Means 2, 5 and 4.
    rows = [
        made_up(v, seed=seed, agent=agent) for seed, both in values.items() for agent, v in zip("03", both, strict=True)
    ]
    point = points_of(rows)["persim", 500]
    assert (point.mean, point.low, point.high) == pytest.approx((11 / 3, 2.0, 5.0))
    assert (point.trials, point.agents) == (3, "0 3")


def test_a_trial_that_lacks_an_agent_does_not_count():
    rows = [made_up(1.0, agent=agent, method="cadm") for agent in "01"]
    rows += [made_up(9.0, agent="0", method="cadm", seed=1), made_up(9.0, agent="1", n_agents=25)]
    points = points_of(rows)
    assert list(points) == [("cadm", 500)]
    assert (points["cadm", 500].mean, points["cadm", 500].trials) == (1.0, 1)


def test_the_thesiss_points_are_means_of_its_cells_over_our_agents():
    known = {(p.method, p.n_agents): p.mean for p in thesis_points("mountaincar", "rmse", "03")}
    cells = [published_error("mountaincar", "random", agent)[0] for agent in (0, 3)]
    assert known["persim", 500] == pytest.approx(np.mean(cells))
    assert known["persim", 250] == pytest.approx((0.005 + 0.001) / 2)  # Table B.7
    known = {(p.method, p.n_agents): p.mean for p in thesis_points("cartpole", "return", FIVE)}
    assert known["bcq-a", 500] == pytest.approx(
        np.mean([published_return("cartpole", "random", agent, "BCQ-A") for agent in range(5)])
    )


@pytest.mark.parametrize(
    "domain, metric, method, n_agents",
    [
        ("cartpole", "rmse", "persim", 100),  # Table B.8 repeats rows of Table B.7.
        ("cartpole", "rmse", "unfactorized", 100),
        ("halfcheetah", "rmse", "cadm", 25),  # Table B.9 repeats one of Table B.7.
        ("halfcheetah", "rmse", "persim", 250),  # Two rows of Table B.9 are one.
        ("halfcheetah", "rmse", "unfactorized", 250),
        ("mountaincar", "return", "cadm", 100),  # Tables 5.3 and B.10 disagree.
    ],
)
def test_faulty_cells_of_the_thesis_are_left_out(domain, metric, method, n_agents):
    found = {(point.method, point.n_agents) for point in thesis_points(domain, metric, FIVE)}
    assert (method, n_agents) not in found
    assert {(method, size) for size in (25, 50, 100, 250) if size != n_agents} <= found


def test_a_true_environment_is_no_line_of_the_thesis():
    for domain in ("mountaincar", "cartpole", "halfcheetah"):
        assert "true-mpc" not in {point.method for point in thesis_points(domain, "return", FIVE)}


def made_up_rows():
    """PerSim and Vanilla CaDM on three sizes, in two trials and for five agents, and planning in the truth."""
    rows = [
        made_up(100 / n_agents * (1 + seed) * factor, method=method, n_agents=n_agents, seed=seed, agent=agent,
                metric=metric)
        for method, factor in (("persim", 0.01), ("cadm", 1.0))
        for n_agents in (25, 100, 500)
        for seed in (0, 1)
        for agent in FIVE
        for metric in ("rmse", "return")
    ]  # fmt: skip
    return rows + [made_up(3.0, method="true-mpc", dataset="-", metric="return", agent=agent) for agent in FIVE]


def test_lines_are_the_points(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "write_figure", lambda figure, numbers, path: kept.append((figure, numbers)))
    rows = made_up_rows() + [made_up(1e9, dataset="pure", agent=agent) for agent in FIVE]  # Other data do not count.
    fewer_agents_figure(rows, tmp_path / "a.png", domains=["mountaincar", "cartpole"])
    ((figure, numbers),) = kept
    errors, _, returns, _ = figure.axes
    for metric, ax in (("rmse", errors), ("return", returns)):
        for method, factor in (("persim", 1.0), ("cadm", 100.0)):
            own = [n for n in numbers if (n["domain"], n["metric"], n["method"]) == ("mountaincar", metric, method)]
            lines = {line.get_linestyle(): line for line in ax.lines if line.get_color() == COLORS[method]}
            ours, thesis = lines["-"], lines["--"]
            drawn = {n["n_agents"]: n["mean"] for n in own if n["source"] == "ours"}
            assert dict(zip(*ours.get_data(), strict=True)) == pytest.approx(drawn)
            assert drawn == pytest.approx({size: 1.5 * factor / size for size in (25, 100, 500)})
            known = {n["n_agents"]: n["mean"] for n in own if n["source"] == "thesis"}
            seen = {x: y for x, y in zip(*thesis.get_data(), strict=True) if np.isfinite(y)}
            assert seen == pytest.approx(known)
    assert errors.get_yscale() == "log" and returns.get_yscale() == "linear"
    assert [line.get_ydata()[0] for line in returns.lines if line.get_linestyle() == ":"] == [3.0]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == METHODS["persim"] and labels[-1] == "thesis"


def test_a_truth_far_above_all_is_named_and_flattens_nothing(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "write_figure", lambda figure, numbers, path: kept.append(figure))
    rows = [made_up(40_000.0, domain="halfcheetah", dataset="-", method="true-mpc", metric="return", agent="0")]
    fewer_agents_figure(rows, tmp_path / "a.png", domains=["halfcheetah"])
    ax = kept[0].axes[1]
    assert ax.get_ylim()[1] < 5_000
    assert "True env + MPC: 40,000, off this scale" in [text.get_text() for text in ax.texts]


def test_the_figure_and_its_numbers(tmp_path):
    path = tmp_path / "fewer.png"
    beside = fewer_agents_figure(made_up_rows(), path, domains=["mountaincar"])
    assert matplotlib.image.imread(path).shape[1] >= 900
    rows = list(csv.DictReader(beside.read_text().splitlines()))
    (row,) = [
        r for r in rows if [r[c] for c in ("source", "method", "n_agents", "metric")] == ["ours", "cadm", "25", "rmse"]
    ]
    assert (row["mean"], row["low"], row["high"], row["trials"], row["agents"]) == ("6", "4", "8", "2", "0 1 2 3 4")


def test_what_was_not_run_shows_the_thesiss_alone(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "write_figure", lambda figure, numbers, path: kept.append((figure, numbers)))
    fewer_agents_figure([], tmp_path / "a.png", domains=["halfcheetah"])
    ((figure, numbers),) = kept
    assert {n["source"] for n in numbers} == {"thesis"} and {n["agents"] for n in numbers} == {"0 1 2 3 4"}
    assert all("no results of ours" in [text.get_text() for text in ax.texts] for ax in figure.axes)
