"""Made-up errors of rollouts with the spread that foretells them."""

import numpy as np


def rollouts(rng, n, steps=30):
    """Errors that grow at random rates, with a spread that tells half of the story."""
    rate = np.exp(rng.normal(size=(n, 1)))
    told = rate * np.exp(0.5 * rng.normal(size=(n, 1)))
    time = np.arange(1, steps + 1)
    return 0.01 * rate * time * np.exp(0.2 * rng.normal(size=(n, steps))), 0.01 * told * time
