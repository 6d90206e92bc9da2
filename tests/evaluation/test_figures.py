"""Figures are pictures with names, values and units."""

import matplotlib.image
import numpy as np

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.acting import RandomPolicy
from persim_gym.evaluation.figures import covariate_label, latent_figure, rank_figure, trajectories_figure
from persim_gym.evaluation.prediction import prediction_error

PNG = b"\x89PNG\r\n\x1a\n"


def test_labels_hold_names_values_and_units():
    assert covariate_label(DOMAINS["mountaincar"], 3) == "gravity 0.0025"
    assert covariate_label(DOMAINS["cartpole"], 4) == "force 10 N, length 0.15 m"


def test_figures_are_written(tmp_path):
    domain = DOMAINS["cartpole"]
    policy = RandomPolicy(domain.action_space)
    errors = {a: prediction_error(domain.dynamics(a), domain, a, policy, episodes=5, warmup=2) for a in (0, 3)}
    trajectories_figure(domain, errors, tmp_path / "trajectories.png")
    latent_figure(domain, np.random.default_rng(0).normal(size=(500, 5)), tmp_path / "factors.png")
    for name in ("trajectories", "factors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


def test_the_figure_is_a_picture(tmp_path):
    path = rank_figure(
        {3: (0.5, 0.1), 5: (0.1, 0.02), 10: (0.12, 0.02)}, 5, 0.12, "mountaincar/tiny-v0", tmp_path / "ranks.png"
    )
    assert matplotlib.image.imread(path).shape[1] > 400
