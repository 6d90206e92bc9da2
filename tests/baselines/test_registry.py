"""Baselines by name: training, folders on disk, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.offline import OBS_DIM, SPECS, logged, of_cartpole

from persim_gym.baselines.bcq_discrete import DiscreteBCQSettings
from persim_gym.baselines.iql import IQLSettings
from persim_gym.baselines.registry import BASELINES, baseline_folder, load_baseline, settings_of, train_baseline
from persim_gym.storage import CARD, WEIGHTS

SMALL = ("layers=[16,16]", "batch=8", "iterations=20")
OBS = np.random.default_rng(0).normal(size=(50, OBS_DIM)).astype(np.float32)


def train(name: str, out, kind: str = "discrete", **options):
    options = {"agent": 1 if name == "bcq-a" else None, "settings": SMALL, "spec": SPECS[kind], **options}
    if kind == "continuous" and name.startswith("bcq"):
        options["settings"] = (*options["settings"], "generative_layers=[16,16]")
    return train_baseline(name, options.pop("data", logged(kind)), out=out, progress=False, **options)


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", BASELINES)
def test_what_is_written_is_what_was_trained_and_writing_repeats_byte_for_byte(name, kind, tmp_path, home):
    first, again = train(name, tmp_path / "one", kind), train(name, tmp_path / "other", kind)
    files = [(tmp_path / folder / WEIGHTS).read_bytes() for folder in ("one", "other")]
    assert files[0] == files[1]
    first.save(tmp_path / "third")
    assert (tmp_path / "third" / WEIGHTS).read_bytes() == files[0]
    loaded = load_baseline(tmp_path / "one")
    assert loaded.card == first.card
    np.testing.assert_array_equal(loaded.predict(OBS, deterministic=True)[0], again.predict(OBS, deterministic=True)[0])
    card = json.loads((tmp_path / "one" / CARD).read_text())
    assert card["method"] == name and card["dataset"] == "in memory" and card["settings"]["iterations"] == 20
    assert card["transitions"] == (40 if name == "bcq-a" else 120)
    # No checkpoint is left behind.
    assert not list((home / "training").glob("*"))


@pytest.mark.parametrize("double", [True, False], ids=["float64", "autocast"])
@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("name", BASELINES)
def test_torchs_settings_change_no_weight_and_no_action(name, kind, double, tmp_path):
    usual = train(name, tmp_path / "usual", kind).predict(OBS)[0]
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=not double):
            torch.set_default_dtype(torch.float64 if double else torch.float32)
            other = train(name, tmp_path / "other", kind).predict(OBS)[0]
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(usual, other)
    one, again = ((tmp_path / folder / WEIGHTS).read_bytes() for folder in ("usual", "other"))
    assert one == again


def test_a_finished_training_is_loaded_and_another_is_not_replaced(tmp_path):
    first = train("bc", tmp_path)
    # The time of the training is its own too.
    assert train("bc", tmp_path).card == first.card
    with pytest.raises(ValueError, match=r"holds another baseline \(bc of in memory, seed 0.*--force"):
        train("bc", tmp_path, seed=1)
    with pytest.raises(ValueError, match="holds another baseline"):
        train("iql", tmp_path)
    assert train("bc", tmp_path, seed=1, force=True).card.seed == 1


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds notes.txt, which would be lost"):
        train("bc", tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / CARD).write_text('{"sha256": ""}')
    with pytest.raises(ValueError, match="cannot be read"):
        train("bc", tmp_path / "other")


def test_one_agent_s_policy_is_of_its_own_transitions_alone(tmp_path):
    data = logged("discrete")
    others = replace(data, obs=np.where(data.agent[:, None] == 1, data.obs, data.obs + 5).astype(np.float32))
    one, other = (train("bcq-a", tmp_path / str(i), data=some) for i, some in enumerate((data, others)))
    np.testing.assert_array_equal(one.predict(OBS)[0], other.predict(OBS)[0])
    assert one.card.agent == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("bcq", {}, "baseline 'bcq' is not one of bcq-p, bcq-a, bc, iql"),
        ("bcq-a", {"agent": None}, "bcq-a is trained on one agent's transitions; give an agent"),
        ("bcq-p", {"agent": 0}, "bcq-p is trained on all agents'; leave the agent out"),
        ("bcq-a", {"agent": 3}, "agent 3 has no transitions"),
        ("bc", {"seed": -1}, "seed=-1 must not be negative"),
        ("bc", {"spec": None}, "is no dataset of a domain here; give spec=EnvironmentSpec"),
        ("bc", {"iterations": 0}, "must be positive"),
        ("bc", {"settings": ["threshold=0.2"]}, "there is no setting 'threshold'"),
        ("iql", {"settings": DiscreteBCQSettings()}, "iql takes IQLSettings for these actions"),
    ],
)
def test_what_cannot_be_trained_is_one_line_that_says_why(name, options, said, tmp_path):
    with pytest.raises(ValueError, match=said) as error:
        train(name, tmp_path / "it", **options)
    assert "\n" not in str(error.value) and not (tmp_path / "it").exists()


@pytest.mark.parametrize("damage", ["weights", "card", "version"])
def test_a_damaged_folder_is_refused(damage, tmp_path):
    train("bc", tmp_path)
    if damage == "weights":
        (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-4])
    else:
        card = json.loads((tmp_path / CARD).read_text())
        change = {"settings": {"width": 3}} if damage == "card" else {"format": 99}
        (tmp_path / CARD).write_text(json.dumps({**card, **change}))
    with pytest.raises(ValueError, match="cannot be read"):
        load_baseline(tmp_path)


def test_settings_are_the_authors_unless_changed():
    assert settings_of("iql", SPECS["discrete"], iterations=7) == IQLSettings(iterations=7)
    bcq = settings_of("bcq-p", SPECS["continuous"])
    assert (bcq.perturbation, bcq.minimum_weight, bcq.proposals, bcq.batch) == (0.05, 0.75, 10, 100)
    bcq = settings_of("bcq-a", SPECS["discrete"])
    assert (bcq.threshold, bcq.learning_rate, bcq.target_rate, bcq.batch) == (0.3, 3e-4, 0.005, 64)


def test_the_domain_of_a_dataset_gives_the_spaces(tmp_path):
    policy = train("bc", tmp_path, data=of_cartpole(), spec=None)
    assert policy.card.domain == "cartpole" and policy.spec.n_actions == 2 and policy.spec.episode_steps == 200


def test_default_folders_say_dataset_method_and_agent():
    assert str(baseline_folder("bcq-p", "persim/cartpole/pure-v0")) == "persim-out/baselines/cartpole-pure-v0-bcq-p"
    assert baseline_folder("bcq-a", "cartpole/pure-v0", 3).as_posix().endswith("cartpole-pure-v0-bcq-a/agent-3")
