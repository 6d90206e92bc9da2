"""A baseline is trained and tested, by one policy for all agents or one an agent."""

import os

import numpy as np
import pytest
from support.tanks import AGENTS, tanks_of

from persim_gym.baselines.registry import load_baseline
from persim_gym.workflows.baseline import train_and_test

SMALL = {"settings": ["layers=[16,16]", "batch=8"], "iterations": 20, "progress": False, "episodes": 3}
DATASET = "cartpole/random-v0"


@pytest.fixture(scope="module", autouse=True)
def dataset(place_dataset):
    place_dataset(f"persim/{DATASET}", os.environ["MINARI_DATASETS_PATH"])


def test_one_policy_is_tested_on_every_agent(tmp_path):
    returns = train_and_test("bcq-p", DATASET, [4, 0, 4], out=tmp_path / "p", **SMALL)
    assert list(returns) == [4, 0] and all(values.shape == (3,) for values in returns.values())
    assert load_baseline(tmp_path / "p").card.agent is None
    again = train_and_test("bcq-p", DATASET, [4], out=tmp_path / "p", **SMALL)
    np.testing.assert_array_equal(again[4], returns[4])


def test_an_agent_s_own_policy_is_in_its_own_folder(tmp_path):
    returns = train_and_test("bcq-a", DATASET, [2, 0], out=tmp_path / "a", workers=1, **SMALL)
    assert list(returns) == [2, 0]
    assert [load_baseline(tmp_path / "a" / f"agent-{agent}").card.agent for agent in (2, 0)] == [2, 0]


# Minari advises to record an author and the like.
@pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari")
def test_data_of_no_domain_are_trained_on_and_not_tested(tmp_path):
    tanks_of("tanks/baseline-v0", range(AGENTS))
    assert train_and_test("bc", "tanks/baseline-v0", [0], out=tmp_path / "bc", **SMALL) == {}
    policy = load_baseline(tmp_path / "bc")
    assert policy.card.domain == "" and policy.predict(np.zeros(policy.spec.observation_space.shape))[0] in (0, 1)
    assert train_and_test("bcq-a", "tanks/baseline-v0", [1], out=tmp_path / "a", workers=1, **SMALL) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bcq-x", DATASET, [0]), "is not one of bcq-p"),
        (("bcq-p", "cartpole/none-v0", [0]), "no dataset 'cartpole/none-v0', built or among"),
        (("bcq-p", DATASET, [500]), "agent 500 is not in the cartpole population"),
    ],
)
def test_a_mistake_is_found_before_anything_is_trained(words, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        train_and_test(*words, out=tmp_path / "it", **SMALL)
    assert not (tmp_path / "it").exists()
