"""Probes tell what a factor knows of a covariate of other agents, and no more."""

import csv
import sys

import matplotlib.image
import numpy as np
import pytest

from persim_gym.envs import DOMAINS
from persim_gym.reproduce.figures import latent_factors
from persim_gym.reproduce.figures.latent_factors import (
    latent_factors_figure,
    linear_probe,
    principal_components,
    tsne,
)

AGENTS = 60


def rng():
    return np.random.default_rng(0)


def mixed(columns):
    """Factors [N, R] in which the columns, [N, R], are mixed and moved at random."""
    rank = columns.shape[1]
    return columns @ rng().normal(size=(rank, rank)) + rng().normal(size=rank)


@pytest.mark.parametrize("name", ["mountaincar", "cartpole", "halfcheetah"])
def test_a_factor_that_is_linear_in_the_covariates_knows_them(name):
    covariates = DOMAINS[name].population
    noise = rng().normal(size=(len(covariates), 5 - covariates.shape[1])) * covariates.std()
    for covariate in covariates.T:
        r2, predicted = linear_probe(mixed(np.column_stack([covariates, noise])), covariate)
        assert r2 > 0.99
        np.testing.assert_allclose(predicted, covariate, rtol=1e-6)


def test_noise_knows_nothing_even_where_it_is_as_long_as_half_the_agents():
    covariate = DOMAINS["mountaincar"].population[:AGENTS, 0]
    for rank in (3, AGENTS // 2 - 1):
        assert linear_probe(rng().normal(size=(AGENTS, rank)), covariate)[0] < 0.1


def test_agents_are_predicted_from_others():
    covariate = rng().normal(size=AGENTS)
    factors, other = rng().normal(size=(AGENTS, 2)), np.array(covariate)
    other[7] = 1e3
    assert linear_probe(factors, covariate)[1][7] == pytest.approx(linear_probe(factors, other)[1][7])


def test_too_few_agents_are_refused():
    with pytest.raises(ValueError, match="a probe of rank 15 needs at least 32 agents, got 30"):
        linear_probe(np.zeros((30, 15)), np.zeros(30))


def test_principal_components_keep_distances_of_what_lies_in_a_plane():
    plane = rng().normal(size=(AGENTS, 2)) * [3, 1]
    basis = np.linalg.qr(rng().normal(size=(5, 2)))[0]
    found, shares = principal_components(plane @ basis.T + 4.0)
    apart = [np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (plane, found)]
    np.testing.assert_allclose(*apart, atol=1e-9)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    assert (found.max(axis=0) > -found.min(axis=0)).all()


def test_the_figure_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"t-SNE needs scikit-learn: pip install 'persim-gym\[figures\]'"):
        latent_factors_figure({"mountaincar": rng().normal(size=(2, AGENTS, 3))}, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_agents_that_are_far_apart_stay_apart():
    pytest.importorskip("sklearn")
    group = np.arange(AGENTS) % 2
    embedded = tsne(np.column_stack([20.0 * group, rng().normal(size=AGENTS)]))
    apart = np.linalg.norm(embedded[:, None] - embedded[None], axis=-1) + 1e9 * np.eye(AGENTS)
    np.testing.assert_array_equal(group[apart.argmin(axis=1)], group)


def test_numbers_are_those_of_the_probes(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_factors, "tsne", lambda factors: factors[:, :2])
    length = DOMAINS["cartpole"].population[:AGENTS, 1]
    knowing, ignorant = 1 / length, rng().normal(size=AGENTS)
    columns = np.stack([[x, *rng().normal(size=(2, AGENTS))] for x in (ignorant, knowing)])  # [M, R, N]
    path = tmp_path / "factors.png"
    beside = latent_factors_figure({"cartpole": columns.transpose(0, 2, 1)}, path, member=1)
    rows = list(csv.DictReader(beside.read_text().splitlines()))
    assert [(row["covariate"], row["member"], row["drawn"]) for row in rows] == [
        ("force", "0", "False"), ("force", "1", "True"), ("length", "0", "False"), ("length", "1", "True")
    ]  # fmt: skip
    assert float(rows[3]["r2"]) == pytest.approx(linear_probe(columns[1].T, length)[0], rel=1e-5)
    assert float(rows[3]["r2_of_reciprocal"]) > 0.999 > 0.99 > float(rows[3]["r2"])
    assert all(float(row["r2"]) < 0.2 for row in rows[:3])
    assert matplotlib.image.imread(path).shape[1] >= 900


def test_panels_say_the_r2_of_the_member_that_is_drawn(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(latent_factors, "tsne", lambda factors: factors[:, :2])
    monkeypatch.setattr(latent_factors, "write_figure", lambda figure, numbers, path: drawn.append((figure, numbers)))
    gravity = DOMAINS["mountaincar"].population[:AGENTS, 0]
    factors = rng().normal(size=(2, AGENTS, 2)) + np.column_stack([gravity * 400, gravity])
    latent_factors_figure({"mountaincar": factors}, tmp_path / "a.png", member=1)
    ((figure, numbers),) = drawn
    said = f"R² {linear_probe(factors[1], gravity)[0]:.3f}"
    panels = figure.axes[:3]
    assert all(any(said in text.get_text() for text in ax.texts) for ax in panels)
    for ax in panels:
        np.testing.assert_array_equal(ax.collections[0].get_array(), gravity)  # Agents keep their colors.
    np.testing.assert_array_equal(panels[0].collections[0].get_offsets(), factors[1, :, :2])
    np.testing.assert_array_equal(panels[2].collections[0].get_offsets()[:, 0], gravity)


@pytest.mark.parametrize(
    "shape, member, message",
    [
        ((2, 60, 3), 2, "member 2 is none of the 2 of mountaincar; give one of 0–1"),
        ((2, 501, 3), 0, "mountaincar has 501 agents here, more than its population"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, shape, member, message):
    with pytest.raises(ValueError, match=message):
        latent_factors_figure({"mountaincar": np.zeros(shape)}, tmp_path / "a.png", member=member)
