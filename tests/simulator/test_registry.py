"""Simulators on disk: whole or not at all, checked when read, found by path, by name, or bundled."""

import json
import os
import shutil
import tempfile

import numpy as np
import pytest
import torch
from support.recipes import TINY
from support.walls import RECIPE, save_pucks

from persim_gym.envs import DOMAINS
from persim_gym.paths import ASSETS, persim_home
from persim_gym.simulator.model.walls import describe_walls, no_walls
from persim_gym.simulator.model_card import card_markdown
from persim_gym.simulator.registry import (
    DEFAULT_SIMULATOR,
    UnknownSimulatorError,
    find_simulator,
    list_simulators,
    load_simulator,
)
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.storage import CARD, WEIGHTS, read_folder, write_folder, writing
from persim_gym.workflows.training_setup import recipe_for

BUNDLED = ["cartpole/random-v0", "mountaincar/random-v0"]
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def folder(save_car, tmp_path):
    """A simulator saved by path."""
    return save_car(tmp_path / "saved")


def edit_card(folder, **changes):
    """Changes keys of a card; None removes them."""
    card = json.loads((folder / CARD).read_text()) | changes
    (folder / CARD).write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


# --- what is saved is what is loaded --------------------------------------------------------------------------------


def test_loading_gives_the_saved_weights_and_predictions(folder, car_model, cars):
    loaded = load_simulator(str(folder)).model
    assert loaded.config == car_model.config
    for (name, saved), read in zip(car_model.state_dict().items(), loaded.state_dict().values(), strict=True):
        np.testing.assert_array_equal(saved, read, err_msg=name)
    inputs = [torch.from_numpy(values) for values in (cars.agent, cars.obs, cars.action)]
    torch.testing.assert_close(loaded.predict(*inputs), car_model.predict(*inputs).detach(), rtol=0, atol=0)


def test_saving_what_was_loaded_gives_the_same_bytes(folder, save_car, tmp_path):
    again = save_car(tmp_path / "again", model=load_simulator(str(folder)).model)
    for name in (CARD, WEIGHTS):
        assert (folder / name).read_bytes() == (again / name).read_bytes()


def test_a_card_says_where_a_simulator_comes_from(folder, cars):
    card = load_simulator(str(folder)).card
    assert (card.name, card.domain, card.dataset) == ("mountaincar/tiny-v0", "mountaincar", cars.source)
    assert (card.dataset_hash, card.transitions, card.recipe["rank"]) == (cars.content_hash(), 600, 3)
    assert set(card.libraries) == {"gymnasium", "numpy", "torch", "persim_gym"}


def test_saving_again_replaces_what_is_loaded(folder, save_car, car_model):
    load_simulator(str(folder))
    save_car(folder, model=(other := type(car_model)(car_model.config, seed=99)))
    loaded = load_simulator(str(folder)).model
    np.testing.assert_array_equal(loaded.agent_encoder.factor, other.agent_encoder.factor.detach())


# --- what is damaged is refused -------------------------------------------------------------------------------------


def test_truncated_weights_are_refused_with_the_remedy(folder):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{folder / WEIGHTS} is damaged: .* make it again"):
        load_simulator(str(folder))


def test_a_flipped_bit_of_the_weights_is_refused(folder):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(ValueError, match="is damaged: its SHA-256"):
        load_simulator(str(folder))


def test_missing_weights_are_refused(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"{folder} cannot be read .*make it again"):
        load_simulator(str(folder))


def test_a_folder_without_a_card_is_no_simulator(folder):
    (folder / CARD).unlink()
    with pytest.raises(UnknownSimulatorError, match=f"no simulator '{folder}'"):
        load_simulator(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[]", '"card"'])
def test_a_card_that_is_no_json_object_is_refused(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(ValueError, match=f"{folder}"):
        load_simulator(str(folder))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"domain": None}, "'domain' of SimulatorCard: missing, or not of this version"),
        ({"author": "me"}, "'author' of SimulatorCard: missing, or not of this version"),
        ({"seed": "0"}, "seed is '0', not of type int"),
        ({"seed": True}, "seed is True, not of type int"),
        ({"seed": 2**63}, "seed is 9223372036854775808, not of type int"),
        ({"training_seconds": float("nan")}, "training_seconds is nan, not of type float"),
        ({"shape": [6, 2]}, "shape is .6, 2., not of type dict.str, Any."),
        ({"libraries": {"numpy": 2}}, "libraries.'numpy'. is 2, not of type str"),
        ({"name": "a\nb"}, r"'a\\nb' on card.json is no name"),
        ({"format": 99}, "is not a simulator card of format 1"),
        ({"license": None}, "see format, license"),
        ({"error": {"data": "x"}}, "KeyError.'columns'"),
        ({"trust": {"spread_profile": {}}}, "KeyError.'scale'"),
        ({"agents": {"transitions_seen": 3, "directions_left_open": 3}}, "TypeError"),
    ],
    ids=str,
)
def test_a_card_of_another_form_is_refused_by_key(folder, change, named):
    edit_card(folder, **change)
    with pytest.raises(ValueError, match=rf"^{folder} cannot be read \([^\n]*{named}[^\n]*\); remove it and make it"):
        load_simulator(str(folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": 4}, "do not fit the shape on the card .see action_encoder"),
        ({"members": 2}, "do not fit"),
        ({"state_layers": [16, 16]}, "do not fit"),
        ({"state_layers": [16] * 10**5}, "has more layers"),
        ({"n_agents": 10**12}, "do not fit"),
        ({"members": 10**12}, "do not fit|too large|overflow"),
        ({"variant": "unfactorized"}, "do not fit"),
        ({"obs_dim": 10**6}, "observations of 1,000,000 numbers are too large"),
        ({"rank": 0}, "impossible model sizes"),
        ({"ranks": 3}, "'ranks' of ModelConfig"),
        ({"state_layers": 16}, "state_layers is 16, not of type tuple.int, ..."),
        ({"state_layers": [16.5]}, "state_layers.0. is 16.5, not of type int"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_weights_that_do_not_fit_the_shape_on_the_card_are_refused(folder, change, said):
    shape = json.loads((folder / CARD).read_text())["shape"]
    edit_card(folder, shape=shape | change)
    with pytest.raises(ValueError, match=rf"^{folder} cannot be read \([^\n]*({said})[^\n]*; remove it and make it"):
        load_simulator(str(folder))


@pytest.mark.parametrize("domain", ["cartpole", "pendulum", "halfcheetah", "no domain"])
def test_a_model_that_is_not_of_its_domain_is_refused(folder, domain):
    edit_card(folder, domain=domain)
    with pytest.raises(
        ValueError, match=f"^{folder} cannot be read .(spaces and task on card.json do not|unknown domain)"
    ):
        load_simulator(str(folder))


# --- whole or not at all --------------------------------------------------------------------------------------------


def interrupted(*args, **keywords):
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["card", "rename"])
def test_an_interrupted_first_save_is_neither_listed_nor_found(save_car, monkeypatch, stage):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*((json, "dumps") if stage == "card" else (os, "replace")), interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_car()
    assert sorted(list_simulators()) == BUNDLED
    with pytest.raises(UnknownSimulatorError):
        load_simulator("mountaincar/tiny-v0")


@pytest.mark.parametrize("stage", ["card", "first rename", "second rename"])
def test_an_interrupted_second_save_leaves_the_first(save_car, car_model, stage):
    folder = save_car()
    before = (folder / WEIGHTS).read_bytes()
    renames = iter(range(9))

    def replace(source, target, original=os.replace):
        if next(renames) == (0 if stage == "first rename" else 1):
            raise KeyboardInterrupt
        original(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_exchange", lambda one, other: False)  # as where the system cannot swap two folders
        patch.setattr(*((json, "dumps", interrupted) if stage == "card" else (os, "replace", replace)))
        with pytest.raises(KeyboardInterrupt):
            save_car(model=type(car_model)(car_model.config, seed=99))
    assert (folder / WEIGHTS).read_bytes() == before
    np.testing.assert_array_equal(
        load_simulator("mountaincar/tiny-v0").model.agent_encoder.factor, car_model.agent_encoder.factor.detach()
    )
    assert [p.name for p in folder.parent.iterdir()] == ["tiny-v0"]


def test_what_a_killed_save_leaves_is_not_listed(home, save_car, monkeypatch):
    # A killed process tidies nothing up.
    monkeypatch.setattr(tempfile.TemporaryDirectory, "_rmtree", classmethod(lambda *args, **keywords: None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save_car()
    left = list((persim_home() / "simulators" / "mountaincar").rglob(CARD))
    assert len(left) == 1
    assert sorted(list_simulators()) == BUNDLED


# --- what a simulator does not take the place of ---------------------------------------------------------------------


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("where", ["documents", "documents/thesis.tex", ".", "saved", "saved/inside"])
def test_nothing_but_a_simulator_is_replaced(save_car, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "thesis.tex").write_text("three years")
    save_car(tmp_path / "saved")
    (tmp_path / "saved" / "notes").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path}.*give another folder"):
        save_car(tmp_path / where if where != "." else type(tmp_path)("."))
    assert tree(tmp_path) == before


def test_a_name_that_stands_for_a_folder_of_simulators_is_refused(save_car, home):
    save_car(name="cars/one-v0")
    before = tree(home)
    with pytest.raises(ValueError, match="simulators/cars holds one-v0, which would be lost"):
        save_car(name="cars")
    with pytest.raises(ValueError, match="nothing goes inside of it"):
        save_car(name="cars/one-v0/again")
    for name in ("", "/cars", "../cars", "."):
        with pytest.raises(ValueError, match="is no name of a simulator"):
            save_car(name=name)
    assert tree(home) == before


def test_files_beside_a_simulator_are_kept_when_it_is_replaced(folder, save_car, car_model):
    (folder / "ranks.png").write_bytes(b"a figure")
    save_car(folder, model=type(car_model)(car_model.config, seed=99))
    assert (folder / "ranks.png").read_bytes() == b"a figure"
    assert load_simulator(str(folder)).card.sha256


def test_the_users_home_is_known_by_its_sign(save_car, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    written = save_car(type(tmp_path)("~/saved"))
    assert written == tmp_path / "saved" and load_simulator("~/saved").folder == written
    assert not (tmp_path / "~").exists()


def test_a_folder_that_cannot_be_written_is_an_error_before_training(cars, tmp_path, monkeypatch, home):
    from persim_gym.workflows.train import train

    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    monkeypatch.setattr("persim_gym.workflows.hold_out.train_model", lambda *args, **keywords: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"{tmp_path} is no folder that you may write to"):
        train(cars, name="x", domain="mountaincar", out=tmp_path / "new", progress=False)


# --- where simulators are found -------------------------------------------------------------------------------------


def test_an_unknown_simulator_lists_those_that_exist(save_car):
    save_car()
    with pytest.raises(KeyError) as error:
        load_simulator("mountaincar/pure-v0")
    message = str(error.value)
    assert message.startswith("no simulator 'mountaincar/pure-v0', by name or as a folder with a card.json")
    assert all(name in message for name in [*BUNDLED, "mountaincar/tiny-v0"])
    assert "`persim simulators list` shows all, `persim train` makes one" in message


def test_the_users_simulator_hides_a_bundled_one_and_no_folder_hides_either(save_car, tmp_path, monkeypatch):
    assert find_simulator(DEFAULT_SIMULATOR) == ASSETS / "simulators" / DEFAULT_SIMULATOR
    mine = save_car(name=DEFAULT_SIMULATOR)
    assert mine == persim_home() / "simulators" / DEFAULT_SIMULATOR
    assert find_simulator(DEFAULT_SIMULATOR) == list_simulators()[DEFAULT_SIMULATOR] == mine
    monkeypatch.chdir(tmp_path)
    here = save_car(tmp_path / DEFAULT_SIMULATOR)
    assert find_simulator(DEFAULT_SIMULATOR) == find_simulator(f"{DEFAULT_SIMULATOR}/") == mine
    shutil.rmtree(mine)
    assert find_simulator(DEFAULT_SIMULATOR) == ASSETS / "simulators" / DEFAULT_SIMULATOR
    for path in (f"./{DEFAULT_SIMULATOR}", str(here), f"../{tmp_path.name}/{DEFAULT_SIMULATOR}"):
        assert find_simulator(path).resolve() == here
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_simulator(f"~/{DEFAULT_SIMULATOR}") == here
    save_car(tmp_path / "other" / "one-v0")
    assert find_simulator("other/one-v0").resolve() == tmp_path / "other" / "one-v0"


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_simulator_is_what_its_card_says(name):
    simulator = load_simulator(name)
    card, shape = simulator.card, simulator.model.config
    domain = DOMAINS[card.domain]
    assert (card.name, card.dataset, card.domain) == (name, f"persim/{name}", name.split("/")[0])
    assert (shape.n_agents, shape.obs_dim) == (len(domain.population), domain.observation_space.shape[0])
    assert (shape.n_actions, shape.members) == (domain.action_space.n, 5)
    recipes = TrainingRecipe.from_json(card.recipe), recipe_for(card.domain, card.recipe_name)
    assert len({recipe.for_data(card.transitions) for recipe in recipes}) == 1
    assert (shape.rank, list(shape.state_layers)) == (card.recipe["rank"], card.recipe["state_layers"])
    assert all(torch.isfinite(p).all() for p in simulator.model.parameters())


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_simulator_predicts_its_agents(name):
    """One step ahead, on observations as logged: well under the change of the observation itself."""
    simulator = load_simulator(name)
    domain = DOMAINS[simulator.card.domain]
    rng = np.random.default_rng(0)
    for agent in (0, 2, 4, 17, 499):
        obs = domain.observe(domain.initial_state(rng, 200)).astype(np.float32)
        action = rng.integers(domain.action_space.n, size=200)
        true = domain.dynamics(agent)(obs.astype(np.float64), action)
        error = simulator.dynamics(agent)(obs, action).mean(axis=0) - true
        assert np.square(error / (true - obs).std(axis=0)).mean() < 0.02


def test_a_simulator_on_disk_keeps_its_walls_and_its_card_tells_them(pucks, tmp_path):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False)
    again = load_simulator(str(save_pucks(model, tmp_path / "pucks")))
    assert torch.equal(again.model.walls, model.walls)
    assert again.card.walls == describe_walls(model.walls)
    said = "component 0 is no lower than -1 and there component 1 becomes 0"
    assert said in (tmp_path / "pucks" / "README.md").read_text(encoding="utf-8")


def test_files_from_before_walls_are_read(pucks, tmp_path):
    model = fit_ensemble(pucks, TINY, n_actions=2, progress=False)
    folder = save_pucks(model, tmp_path / "pucks")
    stored, tensors = read_folder(folder)
    older = {name: value for name, value in tensors.items() if name != "walls"}
    write_folder(
        folder, {k: v for k, v in stored.items() if k not in ("walls", "sha256")} | {"sha256": ""}, older, card_markdown
    )
    again = load_simulator(str(folder))
    assert "walls" not in read_folder(folder)[1] and torch.equal(again.model.walls, no_walls(3))
    assert again.card.walls == {}


def test_minaris_spelling_of_a_dataset_names_its_simulator():
    assert find_simulator("persim/cartpole/random-v0") == find_simulator("cartpole/random-v0")


@pytest.mark.parametrize("name", [None, 3, object()], ids=["None", "number", "object"])
def test_what_names_nothing_is_refused(name):
    with pytest.raises(ValueError, match="a simulator is named by text or a path, not by"):
        load_simulator(name)
