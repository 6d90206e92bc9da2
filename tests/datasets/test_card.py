"""Dataset cards say what is in the data, beside the thesis's figures."""

import json
from pathlib import Path

import minari
import numpy as np
import pytest
from minari.storage import get_dataset_path
from support.logged_datasets import EPS, PENDULUM, RANDOM, three_datasets, two_cards

from persim_gym.datasets.behavior.policies import load_behavior_policy
from persim_gym.datasets.card import write_card
from persim_gym.datasets.registry import THESIS_DOMAINS, dataset_spec
from persim_gym.evaluation.published import published_logging, published_logging_agents


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


CARDS = Path(__file__).parents[2] / "docs" / "datasets"


def rows(text):
    """Cells of all table rows, by the first cell."""
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in table}


@pytest.fixture(params=[RANDOM, EPS])
def card(request, cards):
    """(dataset id, path of its card)."""
    return request.param, cards / f"{dataset_spec(request.param).name}.md"


def test_rewards_and_lengths_are_the_datas_beside_the_thesis(card):
    dataset_id, path = card
    episodes = list(minari.load_dataset(dataset_id).iterate_episodes())
    returns = np.array([e.rewards.sum() for e in episodes])
    lengths = np.array([len(e.rewards) for e in episodes])
    policy = dataset_spec(dataset_id).policy
    table = rows(path.read_text(encoding="utf-8"))
    for agent, theirs in enumerate(published_logging_agents("cartpole", policy)):
        assert table[str(agent)][1:] == [f"{returns[agent]:.2f}", f"{theirs:.2f}", str(lengths[agent]), "–"]
    reward, length = published_logging("cartpole", policy)
    mean = f"{returns.mean():.2f} ± {returns.std():.2f}"
    assert table["all 500"][1:] == [mean, f"{reward:.2f}", f"{lengths.mean():.2f}", f"{length:.2f}"]
    assert table["transitions"] == [f"{lengths.sum():,}"]
    terminated = sum(bool(e.terminations[-1]) for e in episodes)
    assert table["episodes"] == [f"500: {terminated} terminated, {500 - terminated} cut off by time"]


def test_it_says_how_the_data_were_made(card):
    dataset_id, path = card
    metadata = minari.load_dataset(dataset_id).storage.metadata
    table = rows(path.read_text(encoding="utf-8"))
    assert table["probability of a random action"] == [f"{dataset_spec(dataset_id).epsilon:g}"]
    assert table["seed"] == [f"`numpy.random.default_rng({dataset_spec(dataset_id).seed})`"]
    assert table["SHA-256 of the transitions"] == [f"`{metadata['content_hash']}`"]
    assert table["licence"] == ["MIT"]
    assert all(f"{name} {number}" in table["versions"][0] for name, number in metadata["libraries"].items())
    assert table["force"] == ["2", "18", "10", "N"] and table["length"] == ["0.15", "0.85", "0.5", "m"]


def test_it_says_who_logged_and_what_they_earn(card):
    dataset_id, path = card
    table = rows(path.read_text(encoding="utf-8"))
    loggers = [f"logger-{i}" for i in range(5)] if dataset_id == EPS else []
    assert [name for name in table if name.startswith("logger-")] == loggers
    for name in loggers:
        known = load_behavior_policy("cartpole", name).card
        trained_on = ", ".join(f"{c} {v:g}" for c, v in known.covariates.items())
        earns = f"{known.mean_return:.1f} ± {known.std_return:.1f}"
        assert table[name][0] == trained_on and table[name][2] == earns
        assert table[name][-1] == f"`{known.sha256[:12]}`"


def test_the_picture_is_beside_it(card):
    dataset_id, path = card
    assert path.name == f"{dataset_spec(dataset_id).policy}-v0.md" and path.parent.name == "cartpole"
    assert f"]({path.stem}.png)" in path.read_text(encoding="utf-8")
    assert path.with_suffix(".png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_domain_beyond_the_thesis_has_no_figures_beside_and_its_card_lies_with_the_data_by_default():
    path = write_card(PENDULUM)
    text = path.read_text(encoding="utf-8")
    assert rows(text)["0"][2] == rows(text)["all 500"][2] == "–"
    assert "The thesis has no such dataset." in text
    assert path == get_dataset_path(PENDULUM) / "card.md" and path.with_suffix(".png").is_file()
    assert PENDULUM in minari.list_local_datasets()
    assert minari.load_dataset(PENDULUM).total_episodes == 500


def test_a_dataset_of_an_older_version_is_refused_with_the_remedy(empty, place_dataset):
    place_dataset(RANDOM, empty)
    path = get_dataset_path(RANDOM) / "data" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["seed"]
    path.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ValueError, match="does not record seed.*remove .*random-v0 and build it again"):
        write_card(RANDOM)


@pytest.mark.parametrize("path", sorted(CARDS.glob("*/*.md")), ids=lambda p: p.relative_to(CARDS).as_posix())
def test_the_committed_cards_are_of_the_bundled_logging_policies(path):
    table = rows(path.read_text(encoding="utf-8"))
    recipe = dataset_spec(f"persim/{path.relative_to(CARDS).with_suffix('').as_posix()}")
    assert table["seed"] == [f"`numpy.random.default_rng({recipe.seed})`"]
    assert path.with_suffix(".png").is_file()
    loggers = {name: cells[-1] for name, cells in table.items() if name.startswith("logger-")}
    assert bool(loggers) == (recipe.epsilon < 1.0)
    for name, sha256 in loggers.items():
        assert sha256 == f"`{load_behavior_policy(recipe.domain.name, name).card.sha256[:12]}`", "write the card again"


def carded_mean(domain, policy):
    """Mean return of a committed card, or None."""
    path = CARDS / domain / f"{policy}-v0.md"
    return float(rows(path.read_text(encoding="utf-8"))["all 500"][1].split()[0]) if path.exists() else None


@pytest.mark.parametrize("domain", THESIS_DOMAINS)
def test_the_committed_cards_agree_with_table_a1(domain):
    policies = ("pure", "pure-eps-20", "pure-eps-40", "random")
    means = [mean for policy in policies if (mean := carded_mean(domain, policy)) is not None]
    assert means == sorted(means, reverse=True), "less randomness must earn more"
    assert means[-1] == pytest.approx(published_logging(domain, "random")[0], rel=0.1)
