"""What was measured of a simulator and lies beside its weights: noise, the width of bands, what covariates say."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

from persim_gym.simulator.diagnostics.bands import BandScale
from persim_gym.simulator.inference.static_prior import StaticColumn, StaticPrior
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.noise.gaussian import MAX_CHOICES, GaussianNoise
from persim_gym.storage import MEASURED, checked_array, from_plain

NOISE_PREFIX, BANDS_PREFIX, STATIC_PREFIX = "noise.", "bands.", "static."
T = TypeVar("T")


def measured_arrays(
    noise: GaussianNoise | None, band_scale: BandScale | None, static: StaticPrior | None
) -> dict[str, NDArray[Any]]:
    """Named arrays for a file; none of what is None."""
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, part in {NOISE_PREFIX: noise, BANDS_PREFIX: band_scale, STATIC_PREFIX: static}.items():
        if part is not None:
            arrays |= {prefix + name: values for name, values in part.to_arrays().items()}
    return arrays


def taken(stored: dict[str, T], prefix: str) -> dict[str, T]:
    """Takes what has names of a prefix out of what was read; by names without it."""
    return {name.removeprefix(prefix): stored.pop(name) for name in list(stored) if name.startswith(prefix)}


def measured_parts(
    stored: dict[str, NDArray[Any]], columns: Mapping[str, Any], config: ModelConfig
) -> tuple[GaussianNoise | None, BandScale | None, StaticPrior | None]:
    """Reads what `measured_arrays` made, each None where it was not measured; call this inside `reading`.

    Args:
        stored: Arrays by name.
        columns: What the card says of static covariates.
        config: Sizes of the model.

    Raises:
        KeyError: If an array is missing.
        ValueError: If one does not fit the others, the card or the model.
    """
    noise, bands, static = (taken(stored, prefix) for prefix in (NOISE_PREFIX, BANDS_PREFIX, STATIC_PREFIX))
    choices = config.n_actions * (config.n_actions <= MAX_CHOICES)
    inputs = config.obs_dim + (choices if config.n_actions else config.action_dim)
    return (
        GaussianNoise.from_arrays(noise, config.learned_dim, inputs, config.n_actions) if noise else None,
        BandScale.from_arrays(bands, config.learned_dim) if bands else None,
        _static_prior(static, columns, config) if static and columns else None,
    )


def _static_prior(stored: dict[str, NDArray[Any]], card: Mapping[str, Any], config: ModelConfig) -> StaticPrior:
    """What static covariates say of agents."""
    columns = tuple(from_plain(StaticColumn, column) for column in card["columns"])
    width = 1 + sum(len(column.values) or 2 for column in columns)
    shapes = {
        "information": (config.members, config.rank, config.rank),
        "weight": (config.members, width, config.rank),
    }
    parts = [checked_array(name, stored.get(name), shape, "f", MEASURED) for name, shape in shapes.items()]
    information, weight = (torch.from_numpy(part) for part in parts)
    return StaticPrior(columns, information, weight, float(card["explained"]))
