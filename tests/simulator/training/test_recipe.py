"""Recipes: the thesis's own, one for every domain, and those that cannot be."""

import pytest

from persim_gym.envs import DOMAINS
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.workflows.training_setup import recipe_for


@pytest.mark.parametrize(
    ("domain", "rank", "batch", "state_layers"),
    [("mountaincar", 3, 512, (256,)), ("cartpole", 5, 64, (256,)), ("halfcheetah", 15, 512, (256,) * 4)],
)
def test_the_thesis_recipes_are_the_thesis_s(domain, rank, batch, state_layers):
    recipe = recipe_for(domain, "thesis")
    assert (recipe.rank, recipe.batch, recipe.state_layers) == (rank, batch, state_layers)
    assert (recipe.action_layers, recipe.activation, recipe.members) == ((256, 256), "relu", 5)
    assert (recipe.epochs, recipe.learning_rate, recipe.pull) == (300, 1e-3, 0.0)


@pytest.mark.parametrize("kind", ["default", "thesis"])
@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_recipes_that_fit_its_actions(domain, kind):
    continuous = not hasattr(DOMAINS[domain].action_space, "n")
    recipe = recipe_for(domain, kind, continuous=continuous)
    assert recipe.members == 5 and recipe.rank <= (15 if kind == "thesis" else 30)


def test_an_unknown_kind_of_recipe_lists_those_that_exist():
    with pytest.raises(ValueError, match="recipe 'fast' is not one of default, thesis"):
        recipe_for("cartpole", "fast")


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"pull": -1.0}, {"interaction": -1.0}], ids=str
)
def test_impossible_recipes_are_refused(change):
    with pytest.raises(ValueError, match="impossible recipe"):
        TrainingRecipe(**change)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="'cosine' is not one of one-cycle, halving"):
        TrainingRecipe(schedule="cosine")


def test_rounds_cannot_be_negative():
    with pytest.raises(ValueError, match="refine must not be negative"):
        TrainingRecipe(refine=-1)
