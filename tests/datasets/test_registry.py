"""The datasets that there are recipes of."""

from persim_gym.datasets.registry import DATASETS, EPSILONS, THESIS_DOMAINS, DatasetSpec, dataset_spec, find_dataset
from persim_gym.envs import DOMAINS


def test_only_datasets_that_make_sense_are_listed():
    of = {name: [r.policy for r in DATASETS.values() if r.domain.name == name] for name in DOMAINS}
    for name, policies in of.items():
        if name in THESIS_DOMAINS:
            assert policies == ["pure", "random", "pure-eps-20", "pure-eps-40"]
        else:
            pure = DatasetSpec(DOMAINS[name], "pure")
            assert "random" in policies and ("pure" in policies) <= (not pure.missing_loggers)


def test_a_dataset_that_is_not_listed_can_be_built_once_its_loggers_are_there():
    recipe = find_dataset("persim/hopper/pure-eps-20-v0")
    assert recipe is not None and recipe.domain.name == "hopper"
    assert recipe.missing_loggers == [] or recipe.missing_loggers[0].startswith("logger-")
    assert find_dataset("mine/hopper/pure-v0") is None


def test_both_spellings_name_the_same_dataset():
    for dataset_id, recipe in DATASETS.items():
        assert find_dataset(dataset_id) == find_dataset(dataset_id.removeprefix("persim/")) == recipe
        assert dataset_spec(recipe.name) == recipe
    for name in ("cartpole", "cartpole/random", "persim/persim/cartpole/random-v0", "persim/carts/random-v0", ""):
        assert find_dataset(name) is None


def test_the_thesis_domains_have_its_four_datasets_and_all_others_a_random_one():
    policies = ("pure", "random", "pure-eps-20", "pure-eps-40")
    assert {f"persim/{domain}/{policy}-v0" for domain in THESIS_DOMAINS for policy in policies} <= set(DATASETS)
    assert {f"persim/{domain}/random-v0" for domain in DOMAINS} <= set(DATASETS)
    assert {name: dataset_spec(f"persim/cartpole/{name}-v0").epsilon for name in EPSILONS} == EPSILONS
