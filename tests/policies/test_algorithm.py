"""Algorithms from their files: the same policy as Stable-Baselines3 reads, and none of the file's code is run."""

import base64
import json
import os
import pickle
import zipfile
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest

from persim_gym.policies import ALGORITHMS, PolicyTraining, load_policy, run_training
from persim_gym.policies.algorithm import new_algorithm, read_parameters, trained_algorithm
from persim_gym.policies.config import training_env

OFF_POLICY = {
    "learning_starts": 4, "buffer_size": 64, "batch_size": 4, "train_freq": 1, "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}  # fmt: skip
HYPERPARAMETERS = {
    "ppo": {"n_steps": 8, "batch_size": 16, "policy_kwargs": {"net_arch": {"pi": [8], "vf": [16]}}},
    "dqn": {**OFF_POLICY, "scale_observations": True},
    "sac": OFF_POLICY,
    "td3": {**OFF_POLICY, "policy_kwargs": {"net_arch": {"pi": [8], "qf": [16]}}},
}


@pytest.fixture
def trained(save_car, save_robot, tmp_path):
    """`trained(algo)`: what was trained, the algorithm after a few steps, and the file that it is saved to."""

    def train(algo):
        folder = save_car(tmp_path / "car") if algo in ("ppo", "dqn") else save_robot("halfcheetah")
        training = PolicyTraining(3, algo, str(folder), n_envs=2, hyperparameters=HYPERPARAMETERS[algo])
        model = new_algorithm(training, training_env(training, 2)).learn(16)
        model.save(tmp_path / "policy.zip")
        return training, model, tmp_path / "policy.zip"

    return train


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_policy_is_the_one_that_was_saved(algo, trained):
    untouched = deepcopy(HYPERPARAMETERS[algo])
    training, model, path = trained(algo)
    again, theirs = trained_algorithm(training, path), ALGORITHMS[algo].load(path, device="cpu")
    obs = np.random.default_rng(0).normal(size=(20, *model.observation_space.shape)).astype(np.float32)
    for policy in (again, theirs):
        np.testing.assert_array_equal(
            policy.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0]
        )
    goes_on = new_algorithm(training, training_env(training, 2))
    read_parameters(goes_on, path)
    for name, state in model.get_parameters().items():
        assert str(goes_on.get_parameters()[name]) == str(state)
    if algo == "sac":
        assert goes_on.log_ent_coef.item() == model.log_ent_coef.item() != 0
    assert training.hyperparameters == untouched


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["BOMB"],)


def changed_zip(path, **members):
    """Replaces members of an archive."""
    with zipfile.ZipFile(path) as archive:
        kept = {name: archive.read(name) for name in archive.namelist()} | members
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in kept.items():
            archive.writestr(name, data)


def test_pickles_in_a_policys_file_are_not_run(trained, tmp_path, monkeypatch):
    training, model, path = trained("ppo")
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()
    changed_zip(path, data=json.dumps({"policy_class": {":type:": "x", ":serialized:": bomb}}))
    assert trained_algorithm(training, path).predict(np.zeros(2, np.float32))
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(KeyError):
        ALGORITHMS["ppo"].load(path, device="cpu")
    assert (tmp_path / "exploded").exists()  # As Stable-Baselines3 itself would have read it.
    (tmp_path / "exploded").rmdir()
    changed_zip(path, **{"policy.pth": pickle.dumps(Bomb())})
    with pytest.raises(Exception, match="(?i)weights.?only|unpickl"):
        trained_algorithm(training, path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ([10**6, 10**6], "policy.zip is too small for layers of 1000000, 1000000 units"),
        ([10**12], "is too small for layers"),
        ({"pi": [8], "vf": [10**9, 10**9]}, "is too small for layers"),
        ([8.5], "is no list of widths"),
        ("huge", "is no list of widths"),
        ([-1], "is no list of widths"),
        ([9], "size mismatch"),
    ],
    ids=str,
)
def test_layers_that_the_file_cannot_hold_are_refused_before_they_are_made(arch, said, trained):
    training, _, path = trained("ppo")
    with pytest.raises((ValueError, RuntimeError), match=said):
        trained_algorithm(replace(training, hyperparameters={"policy_kwargs": {"net_arch": arch}}), path)


def test_parameters_of_another_algorithm_are_refused(trained):
    training, _, path = trained("sac")
    with pytest.raises(
        ValueError, match="policy.zip holds other parameters than TD3's: policy, actor.optimizer, critic"
    ):
        trained_algorithm(replace(training, algo="td3"), path)


def test_a_damaged_policy_is_one_line(quick, tmp_path):
    run_training(quick, tmp_path, progress=False)
    result, path = tmp_path / "agent-3.json", tmp_path / "agent-3" / "best_model.zip"
    whole = path.read_bytes()
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("policy.pth", bytes(10**6))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for data in (b"", whole[:100], whole[:-1], packed.read_bytes(), bytes(flipped)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"^{path} cannot be read \([^\n]*; remove it and agent-3.json to train"):
            load_policy(result)
