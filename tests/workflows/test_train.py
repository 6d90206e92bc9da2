"""From data to a simulator on disk: settings of a recipe, resumption, and what is left behind."""

import re
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from support.models import assert_same_weights
from support.recipes import RECIPE, TINY
from support.training import interrupt_after
from support.training import train as fit

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.paths import persim_home
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training import trainer as fit_module
from persim_gym.simulator.training.trainer import TrainingDiverged
from persim_gym.spec import EnvironmentSpec
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import recipe_for

cars_domain = DOMAINS["mountaincar"]
OWN = replace(RECIPE, epochs=9, samples=5)


@pytest.mark.parametrize("rank", [0, -3, "0", "-3", "best", "2.5"])
def test_a_rank_that_is_none_is_refused(source, rank):
    with pytest.raises(ValueError, match=f'rank {rank!r} is (neither a positive number nor "auto"|not positive)$'):
        train("mountaincar/random-v0", rank=rank)


def test_fields_of_the_recipe_can_be_set_one_by_one(source, home, monkeypatch):
    monkeypatch.setattr("persim_gym.workflows.training_setup.recipe_for", lambda *a, **k: OWN)
    settings = [
        "epochs=1",
        "state_layers=[8, 8]",
        "activation=silu",
        "agent_std=null",
        "agent_mean=2",
        "pull=1",
        "polish=true",
    ]
    with pytest.raises(ValueError, match="agent_std cannot be 'wide'; write agent_std=VALUE"):
        train("mountaincar/random-v0", settings=[*settings, "agent_std=wide"], progress=False)
    card = train("mountaincar/random-v0", settings=settings, rank=2, progress=False).card
    assert card.recipe_name == " ".join(["default", *settings])
    expected = replace(
        RECIPE,
        epochs=1,
        state_layers=(8, 8),
        activation="silu",
        agent_std=None,
        agent_mean=2,
        pull=1,
        polish=True,
        rank=2,
    ).to_json()
    assert {**card.recipe, "state_layers": (8, 8), "action_layers": expected["action_layers"]} == expected


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rate=1", "there is no setting 'rate'; did you mean learning_rate?"),
        ("epochs", "epochs cannot be ''; write epochs=VALUE with a value such as the present 60"),
        ("epochs=1.5", "epochs cannot be '1.5'"),
        ("epochs=true", "epochs cannot be 'true'"),
        ("polish=1", "polish cannot be '1'; write polish=VALUE with a value such as the present false"),
        ("activation=3", "activation cannot be '3'"),
        (
            "state_layers=8",
            "state_layers cannot be '8'; write state_layers=VALUE with a value such as the present [16]",
        ),
        ("learning_rate=fast", "learning_rate cannot be 'fast'"),
    ],
)
def test_a_setting_that_is_none_says_what_would_be(setting, said):
    with pytest.raises(ValueError, match=re.escape(f"'{setting}': {said}")):
        RECIPE.changed([setting])


def test_fewer_epochs_are_fewer_rounds_in_closed_form_too():
    recipe = replace(RECIPE, samples=6000, refine=32)  # These are 60 passes over 100 transitions.
    short = recipe.shortened(3, transitions=100)
    assert (short.epochs, short.samples, short.refine) == (3, 0, 2)
    assert recipe.shortened(60, transitions=100).refine == 32
    assert replace(recipe, refine=0).shortened(3, 100).refine == 0


def test_rank_and_epochs_change_a_recipe_of_ones_own_too(cars, home):
    recipe = replace(RECIPE, epochs=9)
    folder = train(cars, name="x", domain="mountaincar", recipe=recipe, rank=2, epochs=1, progress=False).folder
    card = load_simulator(str(folder)).card
    assert (card.recipe["rank"], card.recipe["epochs"], card.shape["rank"]) == (2, 1, 2)


def test_a_variant_without_a_rank_takes_none(source, home):
    for rank in ("auto", 5):
        with pytest.raises(ValueError, match="an unfactorized simulator has no rank; leave the rank out"):
            train("mountaincar/random-v0", rank=rank, variant="unfactorized")


@pytest.mark.parametrize("keyword", ["rank", "epochs"])
def test_zero_is_not_taken_for_the_recipes_own(cars, home, keyword):
    with pytest.raises(ValueError, match="epochs 0 is not positive|rank 0 is not positive"):
        train(cars, name="x", domain="mountaincar", **{keyword: 0}, progress=False)


def test_the_figure_of_an_earlier_choice_of_rank_does_not_stay(source, home, monkeypatch):
    monkeypatch.setattr("persim_gym.workflows.training_setup.recipe_for", lambda *a, **k: replace(RECIPE, epochs=1))
    folder = train("mountaincar/random-v0", rank=2, progress=False).folder
    (folder / "ranks.png").write_bytes(b"of another training")
    (folder / "notes.txt").write_text("mine")
    train("mountaincar/random-v0", rank=3, force=True, progress=False)
    assert not (folder / "ranks.png").exists() and (folder / "notes.txt").read_text() == "mine"


def test_a_given_rank_is_used(source, home, monkeypatch):
    monkeypatch.setattr("persim_gym.workflows.training_setup.recipe_for", lambda *a, **k: replace(RECIPE, epochs=1))
    assert train("mountaincar/random-v0", rank=2, progress=False).model.config.rank == 2


def test_training_a_simulator_resumes_and_leaves_only_the_simulator(cars, home):
    plain = replace(recipe_for("mountaincar"), polish=False, refine=0, epochs=3, samples=0)
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False, "recipe": plain}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(cars, **keywords)
    assert [p.suffix for p in (persim_home() / "training").iterdir()] == [".safetensors"]
    folder = train(cars, **keywords).folder
    simulator = load_simulator("mountaincar/mine-v0")
    assert simulator.folder == folder == home / "simulators" / "mountaincar" / "mine-v0"
    assert list((persim_home() / "training").iterdir()) == []
    assert (simulator.card.dataset, simulator.card.dataset_hash) == (cars.source, cars.content_hash())
    assert (simulator.card.transitions, simulator.card.recipe["epochs"]) == (600, 3)
    assert_same_weights(
        simulator.model,
        fit(
            cars,
            plain,
            bounds=(DOMAINS["mountaincar"].observation_space.low, DOMAINS["mountaincar"].observation_space.high),
        ),
    )


def test_an_abandoned_training_is_in_nobodys_way_and_can_go_on(cars, home):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False}
    abandoned = keywords | {"recipe": replace(TINY, epochs=3)}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 2, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(cars, **abandoned)
    (left,) = (persim_home() / "training").iterdir()
    train(cars, **keywords, recipe=TINY)
    train(cars.select(cars.agent != 3), **keywords, recipe=replace(TINY, epochs=3), force=True)
    assert list((persim_home() / "training").iterdir()) == [left]
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 1, KeyboardInterrupt)  # one epoch is missing, and then nothing runs any more
        train(cars, **abandoned, force=True)
    assert list((persim_home() / "training").iterdir()) == []


@pytest.mark.parametrize("kept", [False, True], ids=["at once", "after a checkpoint"])
def test_after_a_divergence_another_recipe_trains_under_the_same_name(cars, home, kept, monkeypatch):
    """The error says to lower the learning rate; what the diverged training kept must not be in the way of that."""
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "progress": False}
    wild = replace(TINY, epochs=3, learning_rate=1e30)
    with monkeypatch.context() as patch, pytest.raises(TrainingDiverged, match="lower learning_rate"):
        if kept:
            rate = fit_module.learning_rate
            patch.setattr(fit_module, "learning_rate", lambda r, *at: 1e-3 if at[0] < 2 else rate(r, *at))
        train(cars, recipe=wild, **keywords)
    folder = train(cars, recipe=replace(wild, learning_rate=1e-3), **keywords).folder
    assert load_simulator(str(folder)).card.recipe["learning_rate"] == 1e-3


@pytest.mark.slow
def test_mountaincar_is_learned_as_exactly_as_if_it_had_no_wall(tmp_path):
    data = load("persim/mountaincar/random-v0", progress=False)
    domain, test = DOMAINS["mountaincar"], load_behavior_policy("mountaincar", TEST)
    folder = train(data, name="mountaincar/random-v0", domain="mountaincar", out=tmp_path / "s", progress=False).folder
    simulator = load_simulator(str(folder))
    assert simulator.card.walls == {"low": {"0": {"0": pytest.approx(-1.2), "1": 0.0}}}
    for agent, thesis in enumerate((0.004, 0.003, 0.001, 0.001, 0.001)):
        assert prediction_error(simulator.dynamics(agent), domain, agent, test).mean_rmse < thesis / 3


def test_a_known_domain_can_have_its_task_learned(cars, home):
    folder = train(
        cars, name="mountaincar/learned-v0", domain="mountaincar", task="learned", epochs=1, progress=False
    ).folder
    simulator = load_simulator(str(folder))
    assert simulator.model.config.extra_dim == 2
    env = gym.make("persim_gym:PersimEnv-v0", simulator=str(folder), agent=1, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.step(1)[0].shape == (2,) and env.render().ndim == 3
    env.close()


def test_a_finished_training_is_not_done_again(cars, home, capsys):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "recipe": TINY}
    first = train(cars, **keywords, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 0, KeyboardInterrupt)  # Nothing may be trained.
        again = train(cars, **keywords)
        assert "trained before with the same data, recipe and seed" in capsys.readouterr().out
        with pytest.raises(KeyboardInterrupt):
            train(cars, **keywords, force=True, progress=False)
    assert_same_weights(first.model, again.model)
    # As many transitions seen are the same training, however the recipe counts them.
    seen = replace(TINY, samples=TINY.epochs * len(cars), epochs=1)
    assert train(cars, **(keywords | {"recipe": seen}), progress=False).card == first.card


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 1}, "different seed"),
        ({"recipe": replace(TINY, rank=1)}, "different recipe"),
        ({"task": "learned"}, "different task"),
        ({"variant": "unpersonalized"}, "different variant"),
        ({"rank": "auto", "seed": 2}, "different seed"),
    ],
)
def test_another_simulator_is_not_replaced_unasked(cars, home, change, what):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "recipe": TINY, "progress": False}
    first = train(cars, **keywords)
    with pytest.raises(ValueError, match=rf"holds another simulator \({what}\); --force replaces it"):
        train(cars, **keywords | change)
    assert load_simulator(str(first.folder)).card == first.card


def test_other_data_do_not_replace_a_simulator_unasked(cars, home):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "recipe": TINY, "progress": False}
    train(cars, **keywords)
    fewer = cars.select(cars.agent != 3)
    with pytest.raises(ValueError, match=r"holds another simulator \(different data\)"):
        train(fewer, **keywords)
    assert train(fewer, **keywords, force=True).card.transitions == len(fewer)


def test_a_few_transitions_of_own_data_show_the_error(cars, home):
    """Without a hold-out 1 % of the transitions, and 50 at least, show it; of a domain and of few data none do."""
    spec = EnvironmentSpec(cars_domain.observation_space, cars_domain.action_space, 500, "learned")
    keywords = {"recipe": replace(TINY, epochs=8), "progress": False, "holdout": False}
    simulator = train(cars, name="fleet/cars-v0", spec=spec, **keywords)
    told = simulator.card.error["held_out"]
    assert told["transitions"] == 50 and len(told["rmse"]) == len(told["no_change_rmse"]) == 2
    assert 0 < told["rmse"][0] < told["no_change_rmse"][0]
    assert int(simulator.beliefs.statistics.seen.sum()) == len(cars) - 50 and simulator.card.transitions == len(cars)
    assert "on 50 transitions that were not trained on" in (simulator.folder / "README.md").read_text()
    few = train(cars.select(np.arange(len(cars)) < 400), name="fleet/few-v0", spec=spec, **keywords)
    assert "held_out" not in few.card.error
    assert "held_out" not in train(cars, name="x", domain="mountaincar", **keywords).card.error


def test_numpy_integers_are_whole_numbers_and_text_is_none(cars, home):
    keywords = {"name": "mountaincar/mine-v0", "domain": "mountaincar", "recipe": TINY, "progress": False}
    plain = train(cars, rank=2, epochs=1, seed=1, **keywords)
    given = train(cars, rank=np.int64(2), epochs=np.int32(1), seed=np.int64(1), **keywords)
    assert given.card == plain.card  # It is known for the same training, and the card is JSON.
    for name in ("rank", "epochs", "seed"):
        with pytest.raises(ValueError, match=f"{name} 1.5 is no whole number"):
            train(cars, **keywords | {name: 1.5})


def test_half_a_name_is_told_before_the_place_is_looked_at(home):
    (home / "simulators" / "cartpole" / "mine-v0").mkdir(parents=True)
    with pytest.raises(ValueError, match="no dataset 'cartpole'.*did you mean cartpole/"):
        train("cartpole", progress=False)
