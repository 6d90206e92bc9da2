"""`persim datasets`: what is listed, built and written on cards."""

from dataclasses import replace

import minari
import pytest
from minari.storage import get_dataset_path
from rich.console import Console
from support.logged_datasets import EPS, RANDOM, three_datasets, two_cards
from typer.testing import CliRunner

from persim_gym import cli
from persim_gym.cli import datasets as data
from persim_gym.cli import output as shared
from persim_gym.datasets.behavior.policies import MissingPolicyError
from persim_gym.datasets.registry import DATASETS


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory, place_dataset):
    """Folder of Minari's datasets, with three in it; no policies but bundled ones."""
    with three_datasets(tmp_path_factory.mktemp("minari"), place_dataset) as root:
        yield root


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty folder of Minari's datasets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def cards(tmp_path_factory, folder):
    """Folder with the cards of two datasets of CartPole."""
    return two_cards(tmp_path_factory.mktemp("cards"))


@pytest.fixture
def small(monkeypatch):
    """Two recipes of CartPole, of eight agents and episodes of at most 20 steps, and no others."""
    monkeypatch.setattr("persim_gym.envs.domain.POPULATION_SIZE", 8)
    few = {i: replace(DATASETS[i], domain=replace(DATASETS[i].domain, episode_steps=20)) for i in (RANDOM, EPS)}
    monkeypatch.setattr("persim_gym.datasets.registry.DATASETS", few)


@pytest.fixture
def no_policies(tmp_path, monkeypatch):
    """No logging policy, not even a bundled one."""
    monkeypatch.setattr("persim_gym.datasets.behavior.policies.ASSETS", tmp_path / "no assets")


@pytest.fixture
def persim(monkeypatch):
    """`persim(*arguments)`: what the command prints."""
    monkeypatch.setattr(shared, "console", Console(width=100))
    monkeypatch.setattr(data, "console", shared.console)

    def run(*arguments):
        result = CliRunner().invoke(cli.app, list(arguments))
        if result.exception is not None:
            raise result.exception
        return result.output

    return run


def test_list_says_what_is_built_and_what_it_holds(persim, no_policies):
    lines = {line.split()[0]: line for line in persim("datasets", "list").splitlines() if line.startswith("persim/")}
    assert set(lines) == set(DATASETS)
    metadata = minari.load_dataset(RANDOM).storage.metadata
    assert lines[RANDOM].split()[1:] == [
        "yes",
        f"{metadata['total_steps']:,}",
        f"{metadata['mean_return']:.1f}",
        metadata["content_hash"][:8],
    ]
    assert lines["persim/mountaincar/random-v0"].split()[1:] == ["no"]
    assert lines["persim/mountaincar/pure-v0"].split()[1:] == ["needs", "loggers"]


def test_build_of_a_domain_leaves_out_what_has_no_loggers(persim, empty, no_policies, small):
    output = persim("datasets", "build", "--domain", "cartpole")
    assert f"{RANDOM}: {get_dataset_path(RANDOM)}" in output
    assert f"{EPS}: left out, needs logger-0, logger-1" in output
    assert "persim datasets train-loggers --domain cartpole" in output
    assert list(minari.list_local_datasets()) == [RANDOM]


def test_build_all_builds_all_that_can_be(persim, empty, small):
    persim("datasets", "build", "--all")
    assert set(minari.list_local_datasets()) == {RANDOM, EPS}
    before = {p: p.stat().st_mtime_ns for p in empty.rglob("*")}
    persim("datasets", "build", "--all")
    assert {p: p.stat().st_mtime_ns for p in empty.rglob("*")} == before


def test_a_dataset_named_without_its_loggers_is_an_error(persim, empty, no_policies):
    with pytest.raises(MissingPolicyError, match="logger-0 of cartpole has not been trained"):
        persim("datasets", "build", EPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "say which datasets to build"),
        (["build", RANDOM, "--all"], "give dataset ids, or --domain, or --all"),
        (["build", "--domain", "carts"], "unknown domain 'carts'; known: mountaincar"),
        (["build", "persim/cartpole/expert-v0"], "no recipe for dataset"),
        (["card", "persim/cartpole/expert-v0"], "no recipe for dataset"),
        (["card", "--domain", "hopper"], "none of the datasets is built"),
    ],
)
def test_wrong_arguments_are_named(persim, arguments, message):
    with pytest.raises(ValueError, match=message):
        persim("datasets", *arguments)


def test_ctrl_c_says_that_the_command_goes_on(empty, monkeypatch, capsys):
    def interrupt(recipe):
        raise KeyboardInterrupt

    monkeypatch.setattr("persim_gym.datasets.collect.build", interrupt)
    monkeypatch.setattr("sys.argv", ["persim", "datasets", "build", RANDOM])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err


def test_card_writes_those_of_all_built_datasets_and_changes_none(persim, cards):
    before = {path: path.read_bytes() for path in cards.rglob("*.*")}
    assert len(before) == 4
    output = persim("datasets", "card", "--out", str(cards))
    written = sorted(p.relative_to(cards).as_posix() for p in cards.rglob("*.md"))
    assert written == ["cartpole/pure-eps-20-v0.md", "cartpole/random-v0.md", "pendulum/random-v0.md"]
    assert all(name in output for name in written)
    assert {path: path.read_bytes() for path in before} == before


def test_card_of_one_dataset_lies_with_its_data(persim):
    persim("datasets", "card", RANDOM)
    assert "# " + RANDOM in (get_dataset_path(RANDOM) / "card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", '{"total_steps": null}', "[" * 100_000])
def test_list_says_what_is_damaged(text, persim, empty, small):
    persim("datasets", "build", RANDOM)
    (get_dataset_path(RANDOM) / "data" / "metadata.json").write_text(text)
    line = next(line for line in persim("datasets", "list").splitlines() if line.startswith(RANDOM))
    assert line.split()[1:] == ["damaged"]
