"""Noise of transitions and the width of bands, measured on logged trajectories that a model was not trained on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from persim_gym.simulator.diagnostics.bands import BandScale, calibrate_bands
from persim_gym.simulator.diagnostics.metrics import one_step
from persim_gym.simulator.diagnostics.open_loop import Windows, cut_windows
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.noise.gaussian import GaussianNoise, fit_gaussian
from persim_gym.transitions import Transitions

BAND_WINDOWS = 1000  # Bands are calibrated on at most so many pieces of trajectories.


class MeasuredNoise(NamedTuple):
    """What was measured.

    Attributes:
        noise: Noise of transitions.
        band_scale: How much wider than rollouts under it bands have to be.
    """

    noise: GaussianNoise
    band_scale: BandScale


def measured_noise(
    model: FactoredEnsemble,
    beliefs: FactorPosterior,
    held_out: Transitions,
    integers: Sequence[int] = (),
    *,
    windows: Windows | None = None,
    given: Sequence[int] = (),
    steps: int = 32,
    seed: int = 0,
) -> MeasuredNoise:
    """Measures a model's noise, and how wide bands have to be, on what it was not trained on.

    Args:
        model: The ensemble.
        beliefs: Of its agents' factors, which the held-out transitions are no part of.
        held_out: Transitions of its agents that follow one another, as the last part of every trajectory: not single
            ones that were drawn from everywhere.
        integers: Components that are whole numbers.
        windows: Pieces of trajectories that bands are calibrated on; None for some of the held-out transitions' own.
        given: Components that bands are told of beforehand; rollouts follow the logged ones, as they do in exogenous
            columns.
        steps: Longest rollout.
        seed: Chooses windows, and is that of rollouts.
    """
    noise = fitted_noise(model, held_out)
    rng = np.random.default_rng(seed)
    if windows is None:
        windows = cut_windows(held_out, np.sort(rng.permutation(len(held_out))[:BAND_WINDOWS]), steps)
    windows = replace(windows, actions=windows.actions[:, :steps], following=windows.following[:, :steps])
    given = [*given, *model.config.held]
    known = np.full_like(windows.following, np.nan)
    known[..., given] = windows.following[..., given]
    scale = calibrate_bands(
        model,
        beliefs,
        noise,
        windows,
        integers,
        known=known if given else None,
        seed=int(rng.integers(2**31)),
    )
    return MeasuredNoise(noise, scale)


def fitted_noise(model: FactoredEnsemble, held_out: Transitions) -> GaussianNoise:
    """The noise that one-step errors of the members' mean show, of transitions that were not trained on."""
    s = model.config
    error, _ = one_step(model, held_out)
    unit = model.logged_std.cpu().double().numpy()
    return fit_gaussian(held_out.obs, held_out.action, -error[:, : s.learned_dim], unit, s.n_actions)
