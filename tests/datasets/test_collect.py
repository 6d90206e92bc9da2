"""Logged datasets: the same at every build, and true to the physics."""

import os

import minari
import numpy as np
import pytest
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import get_namespace_metadata, list_local_namespaces
from minari.storage import get_dataset_path
from support.policies import Constant

from persim_gym.datasets import load, load_minari
from persim_gym.datasets.collect import build, collect_episodes
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.published import published_logging
from persim_gym.simulator.registry import load_simulator

CARTPOLE = "persim/cartpole/random-v0"


@pytest.fixture(scope="module")
def logged(place_dataset):
    """The random datasets of all 500 agents, in the session's folder."""
    place_dataset(CARTPOLE, os.environ["MINARI_DATASETS_PATH"])
    return {domain: load(f"persim/{domain}/random-v0", progress=False) for domain in ("mountaincar", "cartpole")}


class Leaning:
    """Pushes the cart to where the pole leans."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return (observation[:, 2] > 0).astype(int), None


def all_agents(domain):
    return {c.name: domain.population[:, i] for i, c in enumerate(domain.covariates)}


# --- collection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOMAINS)
def test_one_episode_an_agent_in_the_order_of_the_population(small, name):
    domain = small(DOMAINS[name])
    episodes = collect_episodes(domain, 1.0, None, np.random.default_rng(0), progress=False)
    assert [e.id for e in episodes] == [e.options["agent"] for e in episodes] == list(range(8))
    for e in episodes:
        steps = len(e.rewards)
        assert e.observations.shape == (steps + 1, *domain.observation_space.shape)
        assert len(e.actions) == len(e.terminations) == len(e.truncations) == steps <= 20
        assert not (e.terminations[:-1] | e.truncations[:-1]).any()
        assert e.terminations[-1] ^ e.truncations[-1]


@pytest.mark.parametrize("name", ["mountaincar", "cartpole", "pendulum"])
def test_the_agents_true_dynamics_reproduce_its_log(small, name):
    domain = small(DOMAINS[name])
    for e in collect_episodes(domain, 1.0, None, np.random.default_rng(0), progress=False):
        predicted = domain.dynamics(e.id)(e.observations[:-1].astype(np.float64), e.actions)
        np.testing.assert_allclose(predicted, e.observations[1:], rtol=1e-5, atol=2e-6)
        np.testing.assert_allclose(
            domain.task.reward(e.observations[:-1].astype(np.float64), e.actions, predicted), e.rewards, atol=1e-4
        )
        np.testing.assert_array_equal(domain.task.terminated(predicted), e.terminations)


@pytest.mark.parametrize("epsilon", [0.0, 0.25])
def test_epsilon_is_the_share_of_random_actions(small, epsilon):
    domain = small(DOMAINS["mountaincar"])
    log = collect_episodes(domain, epsilon, Constant(1), np.random.default_rng(0), progress=False)
    other = np.mean([e.actions != 1 for e in log])  # two of three random actions are not the policy's
    assert other == pytest.approx(epsilon * 2 / 3, abs=0.06 * (epsilon > 0))


def test_the_policy_of_each_agent_sees_its_own_observation(small):
    domain = small(DOMAINS["cartpole"])
    log = collect_episodes(domain, 0.0, Leaning(), np.random.default_rng(0), progress=False)
    for e in log:
        np.testing.assert_array_equal(e.actions, e.observations[:-1, 2] > 0)


def test_collecting_without_the_policies_that_epsilon_needs_is_an_error(small):
    with pytest.raises(ValueError, match="pass logging"):
        collect_episodes(small(DOMAINS["cartpole"]), 0.2, None, np.random.default_rng(0), progress=False)


# --- build --------------------------------------------------------------------------------------------------------


def test_two_builds_are_equal_and_record_their_hash(logged, minari_folder):
    again = load(CARTPOLE, progress=False)
    recorded = minari.load_dataset(CARTPOLE).storage.metadata["content_hash"]
    assert logged["cartpole"].content_hash() == again.content_hash() == recorded


@pytest.mark.parametrize("domain", ["mountaincar", "cartpole"])
def test_random_logs_are_as_rewarding_and_long_as_in_the_thesis(logged, domain):
    data = logged[domain]
    reward, length = published_logging(domain, "random")
    assert reward == {"mountaincar": -496.324, "cartpole": 22.39}[domain]  # Table A.1
    assert data.reward.sum() / 500 == pytest.approx(reward, rel=0.1)
    assert len(data) / 500 == pytest.approx(length, rel=0.1)


@pytest.mark.parametrize("domain", ["mountaincar", "cartpole"])
def test_the_bundled_simulators_were_trained_on_all_of_these_data(logged, domain):
    assert load_simulator(f"{domain}/random-v0").card.transitions == len(logged[domain])


def test_episode_metadata_name_the_agents_of_the_population(logged):
    dataset = minari.load_dataset(CARTPOLE)
    metadata = dataset.storage.get_episode_metadata(range(500))
    assert [int(m["agent"]) for m in metadata] == list(range(500))


def test_a_build_leaves_an_existing_dataset_alone(eight_carts):
    path = build(eight_carts, progress=False)
    before = sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*"))
    assert build(eight_carts, progress=False) == path
    assert sorted((p, p.stat().st_mtime_ns) for p in path.rglob("*")) == before


@pytest.mark.parametrize("stage", ["update_metadata", "update_episodes", "update_episode_metadata"])
def test_an_interrupted_build_leaves_nothing_and_a_second_one_succeeds(eight_carts, minari_folder, stage):
    with pytest.MonkeyPatch.context() as patch:

        def interrupt(*args):
            raise KeyboardInterrupt

        for storage in (MinariStorage, *MinariStorage.__subclasses__()):
            if stage in vars(storage):
                patch.setattr(storage, stage, interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(eight_carts, progress=False)
    assert CARTPOLE not in minari.list_local_datasets()
    assert not get_dataset_path(CARTPOLE).exists()
    build(eight_carts, progress=False)
    assert load_minari(minari.load_dataset(CARTPOLE)).n_agents == 8
    assert [p.name for p in (minari_folder / "persim" / "cartpole").iterdir() if p.is_dir()] == ["random-v0"]


@pytest.mark.parametrize("stage", ["update_metadata", "update_episodes", "update_episode_metadata"])
def test_a_full_disk_ends_a_build_in_one_line_and_leaves_nothing(eight_carts, minari_folder, stage):
    with pytest.MonkeyPatch.context() as patch:

        def full(*args):
            raise RuntimeError("Disable slist on flush dest failure failed (errno = 28, 'No space left on device')")

        for storage in (MinariStorage, *MinariStorage.__subclasses__()):
            if stage in vars(storage):
                patch.setattr(storage, stage, full)
        said = "random-v0 cannot be written: there is no room left on its disk; make room, and do the same again$"
        with pytest.raises(ValueError, match=said):
            build(eight_carts, progress=False)
    assert CARTPOLE not in minari.list_local_datasets()
    assert [p.name for p in (minari_folder / "persim" / "cartpole").iterdir()] == ["namespace_metadata.json"]


def test_namespaces_are_those_that_minari_makes(eight_carts, minari_folder):
    build(eight_carts, progress=False)
    assert list_local_namespaces() == ["persim", "persim/cartpole"]
    assert get_namespace_metadata("persim/cartpole") == get_namespace_metadata("persim") == {}
