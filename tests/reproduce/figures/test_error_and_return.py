"""A point is one trial's error and return; correlations are those of the points."""

import csv
from itertools import product

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex
from support.made_up_results import made_up

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.returns import episode_returns
from persim_gym.reproduce.figures import error_and_return as module
from persim_gym.reproduce.figures.error_and_return import (
    error_and_return_figure,
    pairings,
    random_return,
    rank_correlations,
)
from persim_gym.reproduce.figures.style import COLORS, MARKERS

FLOORS = {(domain, agent): -200.0 for domain in MARKERS for agent in range(5)}


def made_up_rows(domain="mountaincar", sign=-1.0):
    """Errors 1, 2, 3, … of two methods in two trials for two agents, returns that fall or rise with them, the truth."""
    rows = []
    for i, (method, seed, agent) in enumerate(product(("persim", "cadm"), (0, 1), "03"), 1):
        fields = {"domain": domain, "method": method, "seed": seed, "agent": agent}
        rows += [made_up(float(i), **fields), made_up(-100.0 + sign * i, metric="return", **fields)]
    truth = {"domain": domain, "method": "true-mpc", "dataset": "-", "metric": "return"}
    return rows + [made_up(value, agent=a, seed=s, **truth) for a in "03" for s, value in ((0, -110.0), (1, -90.0))]


def test_a_point_is_one_trials_error_and_normalized_return():
    points = pairings(made_up_rows(), FLOORS)
    assert len(points) == 8
    assert [(p.method, p.seed, p.agent, p.rmse, p.earned) for p in points[:2]] == [
        ("persim", 0, 0, 1.0, -101.0),
        ("persim", 0, 3, 2.0, -102.0),
    ]
    for point in points:  # The truth earns -100 in the mean of its trials.
        assert point.normalized == pytest.approx((point.earned + 200) / 100)


def test_only_what_has_both_and_an_agent_with_a_ceiling_is_a_point():
    rows = made_up_rows()
    alone = [
        made_up(5.0, method="unfactorized"),  # Without a return.
        made_up(5.0, method="bcq-p", metric="return"),  # Without an error.
        made_up(5.0, agent="1"), made_up(5.0, agent="1", metric="return"),  # Without a truth.
        made_up(5.0, dataset="pure"), made_up(5.0, n_agents=25, metric="return"),  # Of other data.
    ]  # fmt: skip
    assert pairings(rows + alone, FLOORS) == pairings(rows, FLOORS)
    assert pairings(rows, {end: 0.0 for end in FLOORS}) == []  # Where the truth earns less than chance, 0 to 1 is void.


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rank_correlations_are_those_of_each_domain(sign):
    points = pairings(made_up_rows("mountaincar", sign) + made_up_rows("cartpole", -sign), FLOORS)
    found = rank_correlations(points)
    assert found == {"mountaincar": (pytest.approx(sign), 8), "cartpole": (pytest.approx(-sign), 8)}


def test_no_correlation_of_too_few_points_or_of_equal_ones():
    points = pairings(made_up_rows(), FLOORS)
    assert np.isnan(rank_correlations(points[:2])["mountaincar"][0])
    assert np.isnan(rank_correlations([points[0]] * 5)["mountaincar"][0])


def test_random_returns_are_measured_where_none_are_given():
    domain = DOMAINS["cartpole"]
    measured = random_return("cartpole", 2)
    several = [episode_returns(RandomPolicy(domain.action_space, s), domain, 2, seed=s).mean() for s in range(10)]
    assert min(several) - 5 < measured < max(several) + 5
    rows = [made_up(v, domain="cartpole", metric=m, agent="2") for m, v in (("rmse", 1.0), ("return", 50.0))]
    rows.append(made_up(200.0, domain="cartpole", dataset="-", method="true-mpc", metric="return", agent="2"))
    assert pairings(rows)[0].normalized == pytest.approx((50 - measured) / (200 - measured))


def test_points_that_are_drawn_are_those_of_the_rows(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(module, "write_figure", lambda figure, numbers, path: kept.append(figure))
    rows = made_up_rows("mountaincar") + made_up_rows("halfcheetah", 1.0)
    error_and_return_figure(rows, tmp_path / "a.png", floors=FLOORS)
    (ax,) = kept[0].axes
    drawn = [(*line.get_data(), line.get_marker(), to_hex(line.get_color()).upper()) for line in ax.lines]
    wanted = [([p.rmse], [p.normalized], MARKERS[p.domain], COLORS[p.method]) for p in pairings(rows, FLOORS)]
    assert [tuple(map(list, d[:2])) + d[2:] for d in drawn] == wanted
    labels = [text.get_text() for text in kept[0].legends[0].get_texts()]
    assert labels == [
        "MountainCar: Spearman −1.00, 8 points", "HalfCheetah: Spearman 1.00, 8 points", "PerSim", "Vanilla CaDM"
    ]  # fmt: skip


def test_the_figure_and_its_numbers(tmp_path):
    path = tmp_path / "both.png"
    beside = error_and_return_figure(made_up_rows(), path, floors=FLOORS)
    assert matplotlib.image.imread(path).shape[1] >= 900
    rows = list(csv.DictReader(beside.read_text().splitlines()))
    assert [float(row["rmse"]) for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (tmp_path / "both-spearman.csv").read_text() == "domain,spearman,points\nmountaincar,-1,8\n"


def test_rows_without_a_pair_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no cell has an rmse, a return, and one of true-mpc for its agent; run cells"):
        error_and_return_figure([made_up(1.0)], tmp_path / "a.png")
