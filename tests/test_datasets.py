"""Logged datasets: the same at every build, true to the physics, readable by plain Minari, refused when wrong."""

import os
from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.storage import get_dataset_path

from persim_gym.datasets import load, load_minari
from persim_gym.datasets.collect import build, collect_episodes
from persim_gym.datasets.registry import DATASETS, EPSILONS, THESIS_DOMAINS, DatasetSpec, dataset_spec
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.published import published_logging
from persim_gym.simulator.registry import load_simulator

CARTPOLE = "persim/cartpole/random-v0"


@pytest.fixture(scope="module")
def logged(place_dataset):
    """The random datasets of all 500 agents, in the session's folder."""
    place_dataset(CARTPOLE, os.environ["MINARI_DATASETS_PATH"])
    return {domain: load(f"persim/{domain}/random-v0", progress=False) for domain in ("mountaincar", "cartpole")}


@pytest.fixture
def minari_folder(tmp_path, monkeypatch):
    """An empty folder of Minari datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    """`small(domain)`: the domain with eight agents and episodes of at most 20 steps."""
    monkeypatch.setattr("persim_gym.envs.domain.POPULATION_SIZE", 8)
    return lambda domain: replace(domain, episode_steps=20)


@pytest.fixture
def eight_carts(small, minari_folder):
    """Recipe of a dataset of eight CartPole agents, in an empty folder."""
    return DatasetSpec(small(DOMAINS["cartpole"]), "random")


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
    log = collect_episodes(domain, epsilon, lambda obs: np.ones(8, dtype=int), np.random.default_rng(0), progress=False)
    other = np.mean([e.actions != 1 for e in log])  # two of three random actions are not the policy's
    assert other == pytest.approx(epsilon * 2 / 3, abs=0.06 * (epsilon > 0))


def test_the_policy_of_each_agent_sees_its_own_observation(small):
    domain = small(DOMAINS["cartpole"])
    log = collect_episodes(
        domain, 0.0, lambda obs: (obs[:, 2] > 0).astype(int), np.random.default_rng(0), progress=False
    )
    for e in log:
        np.testing.assert_array_equal(e.actions, e.observations[:-1, 2] > 0)


def test_collecting_without_the_policies_that_epsilon_needs_is_an_error(small):
    with pytest.raises(ValueError, match="pass greedy"):
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


# --- loading ------------------------------------------------------------------------------------------------------


def empty(name, observation_space, **dataset):
    """Storage of a dataset without episodes."""
    get_dataset_path(name).mkdir(parents=True)
    storage = MinariStorage.new(get_dataset_path(name) / "data", observation_space, gym.spaces.Discrete(2))
    storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__, **dataset})
    return storage


def write(name, metadata, observations=None, steps=5, **dataset):
    """A dataset as someone else would write it: one CartPole episode for each metadata."""
    storage = empty(name, DOMAINS["cartpole"].observation_space, **dataset)
    storage.update_episodes(
        EpisodeBuffer(
            id=i,
            options=entry.pop("options", None),
            observations=np.zeros((steps + 1, 4), dtype=np.float32) if observations is None else observations,
            actions=np.zeros(steps, dtype=np.int64),
            rewards=np.ones(steps),
            terminations=np.zeros(steps, dtype=np.bool_),
            truncations=np.arange(steps) == steps - 1,
        )
        for i, entry in enumerate(metadata)
    )
    storage.update_episode_metadata(metadata, range(len(metadata)))


def test_a_local_dataset_with_agents_loads(minari_folder):
    write("mine/carts-v0", [{"agent": 2}, {"options": {"agent": 0}}, {"agent": 2}])
    data = load("mine/carts-v0")
    np.testing.assert_array_equal(data.agent, np.repeat([2, 0, 2], 5))
    assert (data.n_agents, data.source) == (3, "mine/carts-v0")


def test_a_dataset_without_agents_is_refused_with_the_remedy(minari_folder):
    write("mine/nameless-v0", [{"agent": 0}, {"score": 1}])
    with pytest.raises(ValueError, match=r"mine/nameless-v0: episode 1 names no agent.*update_episode_metadata"):
        load("mine/nameless-v0")


def test_nan_in_a_dataset_is_refused_by_episode_and_agent(minari_folder):
    observations = np.zeros((6, 4), dtype=np.float32)
    observations[3, 1] = np.nan
    write("mine/broken-v0", [{"agent": 7}], observations)
    with pytest.raises(ValueError, match=r"mine/broken-v0: obs of transition 3 \(episode 0, agent 7\) is not finite"):
        load("mine/broken-v0")


def test_content_other_than_the_recorded_hash_is_refused(minari_folder):
    write("mine/changed-v0", [{"agent": 0}], content_hash="0" * 64)
    with pytest.raises(ValueError, match="mine/changed-v0: the content does not match its recorded hash.*rebuild"):
        load("mine/changed-v0")


def test_a_part_of_a_dataset_loads_without_its_hash(eight_carts):
    build(eight_carts, progress=False)
    part = minari.load_dataset(CARTPOLE).filter_episodes(lambda episode: episode.id in (2, 5))
    np.testing.assert_array_equal(np.unique(load_minari(part).agent), [2, 5])


def test_observations_without_a_fixed_size_are_refused():
    # Minari cannot store such a space itself; other backends of its interface may.
    words = SimpleNamespace(
        spec=SimpleNamespace(dataset_id="mine/words-v0"),
        observation_space=gym.spaces.Sequence(gym.spaces.Discrete(4)),
        action_space=gym.spaces.Discrete(2),
    )
    with pytest.raises(ValueError, match="mine/words-v0: observations must be of a fixed size, not Sequence"):
        load_minari(words)


def test_images_are_refused():
    pixels = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    frames = SimpleNamespace(
        spec=SimpleNamespace(dataset_id="mine/frames-v0"),
        observation_space=gym.spaces.Dict({"camera": pixels, "speed": gym.spaces.Box(-1, 1, (1,))}),
        action_space=gym.spaces.Discrete(2),
    )
    with pytest.raises(ValueError, match="mine/frames-v0: observations hold images.* write the dataset with features"):
        load_minari(frames)


def test_an_unknown_dataset_lists_what_can_be_built(minari_folder):
    with pytest.raises(ValueError, match="no dataset 'persim/cartpole/expert-v0'") as error:
        load("persim/cartpole/expert-v0")
    assert all(dataset_id in str(error.value) for dataset_id in DATASETS)
    with pytest.raises(ValueError, match="known: .*persim/cartpole/random-v0"):
        dataset_spec("persim/cartpole/expert-v0")


def test_the_thesis_domains_have_its_four_datasets_and_all_others_a_random_one():
    policies = ("pure", "random", "pure-eps-20", "pure-eps-40")
    assert {f"persim/{domain}/{policy}-v0" for domain in THESIS_DOMAINS for policy in policies} <= set(DATASETS)
    assert {f"persim/{domain}/random-v0" for domain in DOMAINS} <= set(DATASETS)
    assert {name: dataset_spec(f"persim/cartpole/{name}-v0").epsilon for name in EPSILONS} == EPSILONS
