"""Learning rates over a training."""

import math

from persim_gym.simulator.training.recipe import TrainingRecipe


def learning_rate(recipe: TrainingRecipe, epoch: int, step: int, steps: int) -> float:
    """Learning rate of one step of an epoch of `steps` steps.

    One-cycle: a cosine from 1/25 of the peak up to it over the first 30 % of training, then a cosine down to 1/10,000
    of the start, as Smith and Topin's schedule in PyTorch.
    """
    if recipe.schedule == "halving":
        return float(recipe.learning_rate * 0.5 ** (epoch // recipe.halve_every))
    done = (epoch * steps + step) / max(recipe.epochs * steps - 1, 1)
    start, rise = recipe.learning_rate / 25, 0.3
    if done < rise:
        return start + (recipe.learning_rate - start) * (1 - math.cos(math.pi * done / rise)) / 2
    end = start / 1e4
    return end + (recipe.learning_rate - end) * (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2
