"""Datasets are Minari's: plain Minari reads them, and a build is the same, whole and alone whatever happens."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import minari
import numpy as np
import pytest
from minari.cli import app as minari_cli
from minari.storage import get_dataset_path
from typer.testing import CliRunner

from persim_gym import storage as scratch
from persim_gym.datasets.behavior.policies import load_behavior_policy, policy_names
from persim_gym.datasets.collect import build
from persim_gym.datasets.registry import DATASETS, THESIS_DOMAINS, DatasetSpec, dataset_spec, find_dataset
from persim_gym.envs import DOMAINS

CARTPOLE = "persim/cartpole/random-v0"
PURE = "persim/cartpole/pure-v0"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory, place_dataset):
    """Folder of Minari's datasets, with the random and pure ones of CartPole in it; no policies but bundled ones."""
    root = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        patch.setenv("PERSIM_HOME", str(root / "home"))
        for dataset_id in (CARTPOLE, PURE):
            place_dataset(dataset_id, root)
        yield root


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder of Minari's datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def eight_carts(monkeypatch):
    """Recipe of the random dataset of CartPole with eight agents and episodes of at most 20 steps."""
    monkeypatch.setattr("persim_gym.envs.domain.POPULATION_SIZE", 8)
    return DatasetSpec(replace(DOMAINS["cartpole"], episode_steps=20), "random")


def python(code, *arguments, **environment):
    """Runs code in another process; UserWarnings, with which Minari reports what it misses, are errors."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


# --- plain Minari -------------------------------------------------------------------------------------------------


def test_plain_minari_reads_iterates_samples_filters_and_recovers():
    run = python(f"""
import sys
import minari
dataset = minari.load_dataset({CARTPOLE!r})
episodes = list(dataset.iterate_episodes())
assert len(episodes) == dataset.total_episodes == 500
assert sum(len(e.rewards) for e in episodes) == dataset.total_steps
assert all(e.observations.shape == (len(e.rewards) + 1, 4) for e in episodes)
assert [int(m["agent"]) for m in dataset.storage.get_episode_metadata(range(500))] == list(range(500))
dataset.set_seed(0)
sampled = dataset.sample_episodes(7)
assert len({{e.id for e in sampled}}) == 7
long = dataset.filter_episodes(lambda e: len(e.rewards) > 30)
assert long.total_episodes == sum(len(e.rewards) > 30 for e in episodes) > 0
assert all(len(e.rewards) > 30 for e in long.iterate_episodes())
assert "persim_gym" not in sys.modules
env = dataset.recover_environment()
obs, _ = env.reset(seed=0)
assert env.observation_space == dataset.observation_space and env.action_space == dataset.action_space
assert obs in env.observation_space and env.step(1)[1] == 1.0
print(env.spec.id, env.spec.max_episode_steps)
""")
    assert run.stdout.split() == ["HeteroCartPole-v0", "200"], run.stderr


def test_the_recovered_environment_becomes_any_agent():
    env = minari.load_dataset(CARTPOLE).recover_environment(agent=2)
    assert env.unwrapped.covariates == DOMAINS["cartpole"].agent_covariates(2)


@pytest.mark.parametrize(
    ("command", "expected"), [(["show", CARTPOLE], "HeteroCartPole-v0"), (["list", "local"], "500")]
)
def test_minaris_command_line_describes_it(command, expected):
    shown = CliRunner().invoke(minari_cli, command, env={"COLUMNS": "200"}, catch_exceptions=False)
    assert shown.exit_code == 0 and CARTPOLE in shown.stdout and expected in shown.stdout


# --- metadata -----------------------------------------------------------------------------------------------------


def test_the_metadata_say_how_it_was_made():
    metadata = minari.load_dataset(CARTPOLE).storage.metadata
    assert (metadata["epsilon"], metadata["seed"]) == (1.0, dataset_spec(CARTPOLE).seed)
    assert metadata["loggers"] == []
    assert {"gymnasium", "minari", "mujoco", "numpy"} == set(metadata["libraries"])
    returns = [e.rewards.sum() for e in minari.load_dataset(CARTPOLE).iterate_episodes()]
    assert metadata["mean_return"] == pytest.approx(np.mean(returns))


def test_the_metadata_name_the_logging_policies():
    loggers = minari.load_dataset(PURE).storage.metadata["loggers"]
    assert [record["name"] for record in loggers] == policy_names("cartpole")[:-1]
    for record in loggers:
        card = load_behavior_policy("cartpole", record["name"]).card
        assert (record["sha256"], record["mean_return"]) == (card.sha256, card.mean_return)
        assert record["covariates"] == card.covariates
    assert sum(record["agents"] for record in loggers) == 500


# --- building -----------------------------------------------------------------------------------------------------


def test_another_process_builds_the_same_content(empty, eight_carts, tmp_path):
    datasets = CARTPOLE, PURE
    for policy in ("random", "pure"):
        build(replace(eight_carts, policy=policy), progress=False)
    recorded = [minari.load_dataset(dataset_id).storage.metadata["content_hash"] for dataset_id in datasets]
    run = python(
        "import sys, minari; from dataclasses import replace\n"
        "from persim_gym.datasets.collect import build\n"
        "from persim_gym.datasets.registry import dataset_spec\n"
        "from persim_gym.envs import domain\n"
        "domain.POPULATION_SIZE = 8\n"
        "for dataset_id in sys.argv[1:]:\n"
        "    recipe = dataset_spec(dataset_id)\n"
        "    build(replace(recipe, domain=replace(recipe.domain, episode_steps=20)), progress=False)\n"
        "    print(minari.load_dataset(dataset_id).storage.metadata['content_hash'])",
        *datasets,
        MINARI_DATASETS_PATH=str(tmp_path / "other"),
        PYTHONHASHSEED="7",
    )
    assert run.stdout.split() == recorded and len(set(recorded)) == 2, run.stderr


def test_a_killed_build_leaves_no_dataset_and_the_next_one_removes_what_it_left(empty, eight_carts):
    run = python(
        "import os, signal; from minari.dataset._storages.hdf5_storage import HDF5Storage\n"
        "from persim_gym.datasets.collect import build\n"
        "from persim_gym.datasets.registry import dataset_spec\n"
        "from persim_gym.envs import domain\n"
        "domain.POPULATION_SIZE = 8\n"
        "HDF5Storage.update_episode_metadata = lambda *args: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"build(dataset_spec({CARTPOLE!r}), progress=False)"
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    parent = get_dataset_path(CARTPOLE).parent
    (left,) = parent.glob(".random-v0-*")
    assert list(left.rglob("*.hdf5"))
    assert CARTPOLE not in minari.list_local_datasets()
    build(eight_carts, progress=False)
    assert sorted(p.name for p in parent.iterdir()) == ["namespace_metadata.json", "random-v0"]
    assert minari.load_dataset(CARTPOLE).total_episodes == 8


def test_what_another_process_is_writing_stays(tmp_path):
    with scratch.scratch_folder(tmp_path / "data") as mine:
        with scratch.scratch_folder(tmp_path / "data") as other:
            assert mine.is_dir() and other.is_dir() and mine != other
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_of_an_unknown_process_is_removed_when_it_is_old(tmp_path):
    new, old = tmp_path / ".data-v0-new_____", tmp_path / ".data-v0-old_____"
    for folder in (new, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    other = tmp_path / ".other-v0-old_____"
    other.mkdir()
    os.utime(other, (0, 0))
    scratch.remove_left_behind(tmp_path / "data-v0")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".data-v0-new_____", ".other-v0-old_____"]


def test_a_build_that_another_one_overtakes_keeps_the_others(empty, eight_carts, monkeypatch):
    target = get_dataset_path(CARTPOLE)

    def overtaken(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("persim_gym.datasets.collect.scratch_folder", scratch.scratch_folder)
            build(eight_carts, progress=False)
        return scratch.scratch_folder(path)

    monkeypatch.setattr("persim_gym.datasets.collect.scratch_folder", overtaken)
    assert build(eight_carts, progress=False) == target
    assert minari.load_dataset(CARTPOLE).total_episodes == 8
    assert not list(target.parent.glob(".*"))


# --- recipes ------------------------------------------------------------------------------------------------------


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
