"""Whatever happens to a file that is read: the same as before, something else that can be used, or a ValueError.

Every loader of the package is here. What is hashed (weights, rows, checkpoints) is the same or refused; of the rest, as
a card, other values may be as good.
"""

import json
import resource
import shutil
import signal
import warnings
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.damage import VALUES, broken_json, write_broken
from support.tanks import tanks_of

from persim_gym.baselines.bcq_discrete import DiscreteBCQSettings
from persim_gym.baselines.cadm.config import CadmSettings
from persim_gym.baselines.cadm.simulator import load_cadm
from persim_gym.baselines.cadm.train import train_cadm
from persim_gym.baselines.registry import load_baseline, train_baseline
from persim_gym.datasets.behavior.learner import load_checkpoint, make_learner, save_checkpoint
from persim_gym.datasets.behavior.policies import policy_covariates, read_behavior_policy
from persim_gym.datasets.collect import build
from persim_gym.datasets.load import load
from persim_gym.datasets.registry import DatasetSpec
from persim_gym.envs import DOMAINS
from persim_gym.jobs import RowLog
from persim_gym.paths import ASSETS
from persim_gym.policies import PolicyTraining, load_policy, run_training, train
from persim_gym.policies.checkpoint import Checkpoint
from persim_gym.policies.config import training_env, with_defaults
from persim_gym.simulator.diagnostics.trust import Trust
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.model_card import card_markdown
from persim_gym.simulator.registry import UnknownSimulatorError
from persim_gym.simulator.training.checkpoint import read_checkpoint, write_checkpoint
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.simulator.trusted_tasks import TRUSTED_TASKS_FILE, check_trusted
from persim_gym.storage import WEIGHTS, read_folder, write_folder
from persim_gym.transition_store import TransitionStore, write_transitions

MOST_MEMORY = 2**30  # Bytes that a loader may take more than before.
LONGEST = 60  # Seconds after which what hangs is ended: no measurement.
TRAINING = PolicyTraining(
    3,
    "dqn",
    steps=64,
    n_envs=4,
    hyperparameters={
        "learning_starts": 16, "buffer_size": 400, "batch_size": 8, "train_freq": 4, "gradient_steps": 1,
        "policy_kwargs": {"net_arch": [8]},
    },
)  # fmt: skip


def examples(count):
    """Settings of so many examples, the same in every run."""
    return settings(
        max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


# --- what is loaded, and how -----------------------------------------------------------------------------------------


def use_simulator(folder):
    """Loads a simulator as an environment does, and uses all that its card says."""
    simulator = read_simulator(folder)
    card = simulator.card
    assert simulator.task and simulator.action_space and repr(simulator)
    card_markdown(asdict(card))
    TrainingRecipe.from_json(card.recipe)
    if card.trust:
        Trust.from_json(card.trust)
    return [values.numpy().tobytes() for values in simulator.model.state_dict().values()]


def use_policy(folder):
    policy = read_behavior_policy(folder, "cartpole")
    return policy.outputs(np.zeros(4)).tolist()


def use_baseline(folder):
    return load_baseline(folder).predict(np.zeros(4, np.float32), deterministic=True)[0].tolist()


def use_context_model(folder):
    model = load_cadm(folder)
    assert model.task and model.action_space
    return model.dynamics(0)(np.zeros((1, 4), np.float32), np.zeros(1, np.int64)).tolist()


def use_store(folder):
    store = TransitionStore(folder)
    store.stored_moments()
    return [values.tobytes() for values in store.read([0]).values()] + [store.sample(2).obs.tobytes()]


def use_training_checkpoint(folder):
    tensors, metadata = read_checkpoint(folder / "x.safetensors")
    return [metadata, *(values.numpy().tobytes() for values in tensors.values())]


def use_rows(folder):
    log = RowLog(folder / "rows.csv", ("agent", "seed"), ("error",))
    log.get({"agent": 1, "seed": 0})


def use_trusted(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(folder))
        check_trusted("mine:task", "x")


def use_dataset(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        name = json.loads((folder / "name").read_text())
        return load(name, progress=False).content_hash()


def use_trained_policy(folder):
    return load_policy(folder / "agent-3.json").predict(np.zeros(2, np.float32), deterministic=True)[0].tolist()


@cache
def unfinished_training():
    """A training of a policy, and its environment, which is made once."""
    training = with_defaults(TRAINING)
    return training, training_env(training, training.n_envs)


def use_policy_checkpoint(folder):
    training, env = unfinished_training()
    model = Checkpoint(folder, training, 60.0).start(env, None)
    return [model.num_timesteps, model.replay_buffer.pos]


@cache
def learner():
    """A learner of a logging policy, past its first updates."""
    hyperparameters = {"learning_starts": 8, "buffer_size": 64, "batch_size": 4, "policy_kwargs": {"net_arch": [8]}}
    recipe = replace(DOMAINS["cartpole"].behavior, hyperparameters=hyperparameters)
    return make_learner(recipe, "cartpole", policy_covariates("cartpole", "test"), seed=0).learn(40)


def use_learner(folder):
    return load_checkpoint(learner(), 0, folder / "checkpoint.pt")


def write_policy_checkpoint(folder):
    """A checkpoint as it is while a policy is trained."""
    training, env = unfinished_training()
    checkpoint = Checkpoint(folder, training, 60.0)
    model = checkpoint.start(env, None).learn(40)
    checkpoint.init_callback(model)
    checkpoint.judge = SimpleNamespace(best_mean_reward=1.0)
    checkpoint.save()


# --- intact files ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def intact(tmp_path_factory, car_model, cars):
    """Folders of everything that is read, by kind."""
    root = tmp_path_factory.mktemp("intact")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERSIM_HOME", str(root / "home"))
        patch.setenv("MINARI_DATASETS_PATH", str(root / "dataset"))
        for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
            patch.setattr(train, name, 2)
        shutil.copytree(ASSETS / "simulators" / "mountaincar" / "random-v0", root / "simulator")
        shutil.copytree(ASSETS / "policies" / "cartpole" / "test", root / "policy")
        write_transitions(root / "store", [cars], n_agents=6, source="cars", stamp="a")
        (root / "checkpoint").mkdir()
        tensors = {"a": torch.arange(20.0), "b": torch.tensor([True, False]), "count": torch.tensor(3)}
        write_checkpoint(root / "checkpoint" / "x.safetensors", tensors, {"identity": "me", "epoch": "12"})
        (root / "rows").mkdir()
        (root / "rows" / "rows.csv").write_text("agent,seed,error\n1,0,0.5\n2,0,0.25\n", encoding="utf-8")
        (root / "trusted").mkdir()
        (root / "trusted" / TRUSTED_TASKS_FILE).write_text("mine:task\nothers:task\n", encoding="utf-8")
        with pytest.MonkeyPatch.context() as few:
            few.setattr("persim_gym.envs.domain.POPULATION_SIZE", 8)
            build(DatasetSpec(replace(DOMAINS["cartpole"], episode_steps=9), "random"), progress=False)
        (root / "dataset" / "name").write_text('"persim/cartpole/random-v0"')
        poles = load("persim/cartpole/random-v0", progress=False)
        small = {"layers": (8, 8), "iterations": 3, "batch": 8}
        train_baseline("bcq-p", poles, settings=DiscreteBCQSettings(**small), out=root / "baseline", progress=False)
        few = CadmSettings(layers=(8,), context_layers=(8,), steps=3, batch=8, check_every=1)
        train_cadm(poles, probabilistic=False, settings=few, out=root / "context", progress=False)
        patch.setenv("MINARI_DATASETS_PATH", str(root / "tanks"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tanks_of("tanks-v0", range(3))
        (root / "tanks" / "name").write_text('"tanks-v0"')
        run_training(TRAINING, root / "trained", progress=False)
        write_policy_checkpoint(root / "unfinished")
        (root / "learner").mkdir()
        save_checkpoint(learner(), 2.0, root / "learner" / "checkpoint.pt")
        yield root


@pytest.fixture
def place(intact, tmp_path, monkeypatch):
    """`place(kind)`: a copy of what is intact, to be damaged."""
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))

    def copied(kind):
        return Path(shutil.copytree(intact / kind, tmp_path / kind))

    return copied


@pytest.fixture(autouse=True)
def bounded():
    """Ends what hangs, and fails where a loader took more memory than it may."""

    def end(*_):
        raise TimeoutError(f"a loader hung for {LONGEST} seconds")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, end)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MOST_MEMORY


def loaded(use, folder):
    """What a loader gives, or None where it refuses in one line that names where and what to do."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return use(folder)
    except (ValueError, UnknownSimulatorError) as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return None


# --- bytes and JSON --------------------------------------------------------------------------------------------------

FILES = {  # What is loaded, the file that is damaged, and whether a hash tells every change.
    "a simulator's card": (use_simulator, "simulator/card.json", False),
    "a simulator's weights": (use_simulator, f"simulator/{WEIGHTS}", True),
    "a logging policy's card": (use_policy, "policy/card.json", False),
    "a logging policy's weights": (use_policy, f"policy/{WEIGHTS}", True),
    "a learner's checkpoint": (use_learner, "learner/checkpoint.pt", False),
    "a baseline's card": (use_baseline, "baseline/card.json", False),
    "a baseline's weights": (use_baseline, f"baseline/{WEIGHTS}", True),
    "a context-aware model's card": (use_context_model, "context/card.json", False),
    "a context-aware model's weights": (use_context_model, f"context/{WEIGHTS}", True),
    "a store's header": (use_store, "store/header.json", False),
    "a store's rows": (use_store, "store/rows.f32", True),
    "a store's episodes": (use_store, "store/episodes.npy", False),
    "a store's first observations": (use_store, "store/first.npy", False),
    "a training's checkpoint": (use_training_checkpoint, "checkpoint/x.safetensors", True),
    "a table of jobs": (use_rows, "rows/rows.csv", False),
    "trusted tasks": (use_trusted, f"trusted/{TRUSTED_TASKS_FILE}", False),
    "a policy's result": (use_trained_policy, "trained/agent-3.json", False),
    "a policy": (use_trained_policy, "trained/agent-3/best_model.zip", False),
    "a policy's checkpoint card": (use_policy_checkpoint, "unfinished/checkpoint/card.json", False),
    "a policy's checkpoint": (use_policy_checkpoint, "unfinished/checkpoint/policy.zip", False),
    "a policy's buffer": (use_policy_checkpoint, "unfinished/checkpoint/buffer.npz", False),
    "a dataset's metadata": (use_dataset, "dataset/persim/cartpole/random-v0/data/metadata.json", False),
    "a dataset's episodes": (use_dataset, "dataset/persim/cartpole/random-v0/data/main_data.hdf5", True),
    "another dataset's metadata": (use_dataset, "tanks/tanks-v0/data/metadata.json", False),
    "another dataset's episodes": (use_dataset, "tanks/tanks-v0/data/main_data.hdf5", False),
}


def damage(kind, place, count):
    use, path, hashed = FILES[kind]
    folder = place(path.split("/")[0])
    file = folder.parent / path
    whole = file.read_bytes()
    expected = loaded(use, folder)
    assert expected is not None or use in (use_rows, use_trusted)

    @examples(count)
    @given(st.data())
    def every(data):
        write_broken(data.draw, file, whole)
        found = loaded(use, folder)
        assert not hashed or found is None or found == expected

    every()


@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_refused_or_as_good(kind, place):
    damage(kind, place, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_file_is_refused_or_as_good_at_length(kind, place):
    signal.alarm(1800)
    damage(kind, place, 300)


# --- arrays that fit their hash --------------------------------------------------------------------------------------


@st.composite
def broken_tensors(draw, tensors):
    """Arrays of which one is gone, or has another name, type, shape or value."""
    name = draw(st.sampled_from(sorted(tensors)))
    array = tensors[name]
    rest = {key: values for key, values in tensors.items() if key != name}
    match draw(st.sampled_from(["gone", "name", "type", "shape", "value", "flat", "more"])):
        case "gone":
            return rest
        case "name":
            return rest | {draw(st.sampled_from([f"{name}s", "", "walls", "beliefs.x", "x" * 1000])): array}
        case "type":
            kind = draw(st.sampled_from([np.float64, np.float16, np.int64, np.uint8, bool]))
            with np.errstate(all="ignore"):
                return rest | {name: array.astype(kind)}
        case "shape":
            return rest | {name: np.concatenate([array.ravel(), array.ravel()])}
        case "flat":
            return rest | {name: array.ravel()}
        case "value":
            changed = array.copy()
            if changed.size:
                value = draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -1.0]))
                changed.flat[0] = value if changed.dtype.kind == "f" else -1
            return rest | {name: changed}
    return tensors | {"more": array}


def damage_tensors(kind, place, count):
    use, folder = {"simulator": use_simulator, "policy": use_policy}[kind], place(kind)
    card, tensors = read_folder(folder)

    @examples(count)
    @given(st.data())
    def every(data):
        write_folder(folder, card, data.draw(broken_tensors(tensors)))
        loaded(use, folder)

    every()


@pytest.mark.parametrize("kind", ["simulator", "policy"])
def test_other_arrays_are_refused_or_can_be_used(kind, place):
    damage_tensors(kind, place, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["simulator", "policy"])
def test_other_arrays_are_refused_or_can_be_used_at_length(kind, place):
    signal.alarm(1800)
    damage_tensors(kind, place, 300)


# --- what Minari keeps inside its files ------------------------------------------------------------------------------

ATTRIBUTES = [value for value in VALUES if isinstance(value, int | float | str) and not isinstance(value, bool)]


def damage_minari(place, count):
    folder = place("tanks")
    metadata, episodes = (folder / "tanks-v0" / "data" / name for name in ("metadata.json", "main_data.hdf5"))
    whole, recorded = json.loads(metadata.read_text()), episodes.read_bytes()

    @examples(count)
    @given(st.data())
    def spaces_and_environment(data):
        name = data.draw(st.sampled_from(["observation_space", "action_space"]))
        inner = data.draw(broken_json(json.loads(whole[name])))
        metadata.write_text(json.dumps({**whole, name: inner, "env_spec": data.draw(st.sampled_from(VALUES))}))
        loaded(use_dataset, folder)

    @examples(count)
    @given(st.data())
    def episode_metadata(data):
        metadata.write_text(json.dumps(whole))
        episodes.write_bytes(recorded)
        with h5py.File(episodes, "a") as file:
            episode = file[f"episode_{data.draw(st.integers(0, 2))}"]
            name = data.draw(st.sampled_from(["id", "options/agent", "options", "agent", "seed", "total_steps", "x/y"]))
            if data.draw(st.booleans()) and name in episode.attrs:
                del episode.attrs[name]
            else:
                value = data.draw(st.sampled_from(ATTRIBUTES))
                episode.attrs[name] = str(value) if isinstance(value, int) and abs(value) >= 2**63 else value
        loaded(use_dataset, folder)

    @examples(count)
    @given(st.data())
    def episode_arrays(data):
        episodes.write_bytes(recorded)
        with h5py.File(episodes, "a") as file:
            episode = file[f"episode_{data.draw(st.integers(0, 2))}"]
            name = data.draw(st.sampled_from(["observations", "actions", "rewards", "terminations", "truncations"]))
            array = episode[name][()]
            del episode[name]
            kinds = ["gone", "text", "group", "short", "wide", "type", "scalar", "nan"]
            match data.draw(st.sampled_from(kinds)):
                case "text":
                    episode[name] = ["a"] * len(array)
                case "group":
                    episode.create_group(name)
                case "short":
                    episode[name] = array[:-1]
                case "wide":
                    episode[name] = np.stack([array, array], axis=-1)
                case "type":
                    episode[name] = array.astype(data.draw(st.sampled_from([np.complex64, np.uint8, np.float16, bool])))
                case "scalar":
                    episode[name] = 3.0
                case "nan":
                    episode[name] = np.full(array.shape, np.nan)
        loaded(use_dataset, folder)

    spaces_and_environment()
    episode_metadata()
    episode_arrays()


def test_what_minari_keeps_is_refused_or_can_be_used(place):
    damage_minari(place, 40)


@pytest.mark.slow
def test_what_minari_keeps_is_refused_or_can_be_used_at_length(place):
    signal.alarm(1800)
    damage_minari(place, 300)


def test_a_dataset_that_names_an_environment_in_place_of_spaces_is_refused(place, tmp_path):
    """Minari would make the environment, and with it import and call whatever its metadata name."""
    folder = place("tanks")
    metadata = folder / "tanks-v0" / "data" / "metadata.json"
    whole = json.loads(metadata.read_text())
    spec = {
        "id": "x-v0",
        "entry_point": "os:mkdir",
        "kwargs": {"path": str(tmp_path / "made")},
        "additional_wrappers": [],
    }
    del whole["observation_space"]
    metadata.write_text(json.dumps({**whole, "env_spec": json.dumps(spec)}))
    with pytest.raises(ValueError, match="tanks-v0 cannot be read .observation_space is no text in metadata.json.;"):
        use_dataset(folder)
    assert not (tmp_path / "made").exists()


def test_one_damaged_dataset_is_no_other_ones_mistake(place):
    folder = place("tanks")
    shutil.copytree(folder / "tanks-v0", folder / "torn-v0")
    (folder / "torn-v0" / "data" / "metadata.json").write_text("{")
    assert use_dataset(folder)
