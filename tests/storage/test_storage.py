"""Files and folders: whole after a kill at any moment, nothing of others lost, and checked when they are read."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numba
import numpy as np
import pytest
from safetensors import SafetensorError
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from persim_gym import paths, storage
from persim_gym.datasets.behavior.learner import load_checkpoint
from persim_gym.datasets.behavior.policies import load_behavior_policy, read_behavior_policy
from persim_gym.jobs import RowLog
from persim_gym.paths import ASSETS, persim_home
from persim_gym.policies import PolicyTraining, read_policy, train
from persim_gym.policies.train import run_training
from persim_gym.simulator.registry import DEFAULT_SIMULATOR, find_simulator, list_simulators, load_simulator
from persim_gym.simulator.simulator import START_AGENTS, START_OBS
from persim_gym.simulator.training.checkpoint import write_checkpoint
from persim_gym.storage import (
    CARD,
    WEIGHTS,
    checked_array,
    leftovers,
    loading,
    read_folder,
    reading,
    replacing,
    write_folder,
    write_json,
)
from persim_gym.transition_store import ROWS_FILE, TransitionStore, matches, write_transitions
from persim_gym.workflows.film import check_film

DEAD = "99999999"  # no process has this number

pytestmark = pytest.mark.usefixtures("home")


def left_by_a_killed_process(target: Path, name: str = "") -> Path:
    """A scratch folder beside a target; `name` is what its process called it, by default as it does now."""
    folder = target.with_name(name or f".{target.name}-{leftovers._host()}-{DEAD}-abcd_f12")
    folder.mkdir()
    return folder


def move_aside(folder: Path, name: str = "") -> None:
    """What a process leaves that is killed between two renames."""
    os.rename(folder, left_by_a_killed_process(folder, name) / "old")


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED_WRITER = """
import os, sys
from pathlib import Path
from persim_gym import storage
from persim_gym.storage import writing

def die(call, when, calls):
    def replaced(*args, **keywords):
        calls.append(args)
        if len(calls) == int(number) and when == "before":
            os._exit(9)
        result = call(*args, **keywords)
        if len(calls) == int(number):
            os._exit(9)
        return result
    return replaced

kind, when, function, number, target = sys.argv[1:]
module = writing if hasattr(writing, function) else os
if kind == "folder" and function == "replace":
    writing._exchange = lambda one, other: False  # as where the system has none
setattr(module, function, die(getattr(module, function), when, []))
if kind == "folder":
    storage.write_folder(Path(target), {"content": "new"}, {})
else:
    storage.write_json(Path(target), {"content": "new"})
"""


@pytest.mark.parametrize(
    ("kind", "when", "function", "number", "left"),
    [
        ("file", "before", "fsync", 1, "old"),
        ("file", "before", "replace", 1, "old"),
        ("file", "after", "replace", 1, "new"),
        ("folder", "before", "fsync", 2, "old"),
        ("folder", "before", "_exchange", 1, "old"),
        ("folder", "after", "_exchange", 1, "new"),
        ("folder", "before", "replace", 1, "old"),
        ("folder", "before", "replace", 2, "old"),
        ("folder", "after", "replace", 2, "new"),
        ("folder", "after", "replace", 3, "new"),
    ],
)
def test_a_killed_write_leaves_the_old_or_the_new_and_the_next_one_clears_up(
    tmp_path, kind, when, function, number, left
):
    target = tmp_path / "target"

    def write(content):
        write_folder(target, {"content": content}, {}) if kind == "folder" else write_json(target, {"content": content})

    def read():
        return (read_folder(target)[0] if kind == "folder" else json.loads(target.read_text()))["content"]

    write("old")
    words = [sys.executable, "-c", KILLED_WRITER, kind, when, function, str(number), str(target)]
    assert subprocess.run(words).returncode == 9
    assert target.exists() or (function, number) == ("replace", 2)
    storage.restored(target)
    assert read() == left
    write("newest")
    assert read() == "newest" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["", ".mine-v0-a1b2c3_4"], ids=["known process", "earlier version"])
def test_a_simulator_that_a_kill_moved_aside_is_found_again(save_car, name):
    folder = save_car(name="mountaincar/mine-v0")
    move_aside(folder, name)
    assert list_simulators()["mountaincar/mine-v0"] == folder and find_simulator("mountaincar/mine-v0") == folder
    move_aside(folder, ".mine-v0-a1b2c3_5")
    assert load_simulator(str(folder)).folder == folder


def test_a_simulator_that_a_kill_moved_aside_does_not_become_the_bundled_one(save_car):
    folder = save_car(name=DEFAULT_SIMULATOR)
    move_aside(folder)
    assert find_simulator(DEFAULT_SIMULATOR) == folder


def test_a_policy_that_a_kill_moved_aside_does_not_become_the_bundled_one():
    folder = persim_home() / "policies" / "cartpole" / "test"
    card, tensors = read_folder(ASSETS / "policies" / "cartpole" / "test")
    write_folder(folder, card | {"seed": 77}, tensors)
    move_aside(folder)
    assert load_behavior_policy("cartpole", "test").card.seed == 77


def test_transitions_that_a_kill_moved_aside_are_found_again(cars, tmp_path):
    folder = tmp_path / "rows"
    write_transitions(folder, [cars], n_agents=6, source="cars", stamp="a")
    move_aside(folder)
    assert matches(folder, "a") and len(TransitionStore(folder)) == len(cars)


def test_what_a_running_process_moved_aside_is_its_own(tmp_path):
    write_folder(tmp_path / "a", {}, {})
    move_aside(tmp_path / "a", f".a-{leftovers._host()}-{os.getpid()}-abcd_f12")
    assert not storage.restored(tmp_path / "a").exists()


@pytest.mark.parametrize("write", [write_json, lambda path, values: write_checkpoint(path, {}, values)])
def test_leftovers_of_killed_writers_are_removed_and_others_stay(tmp_path, write):
    target = tmp_path / "x.1"
    left_by_a_killed_process(target)
    kept = [left_by_a_killed_process(tmp_path / name) for name in ("x", "x.1-1", ".x.1")]
    kept.append(left_by_a_killed_process(target, f".x.1-{leftovers._host()}-{os.getpid()}-abcdefgh"))
    write(target, {"a": "b"})
    assert sorted(tmp_path.iterdir()) == sorted([*kept, target])


def old(path):
    """Makes a file or folder as if nothing had changed for two days."""
    for part in (path, *path.rglob("*")):
        os.utime(part, (time.time() - 2 * leftovers.MAX_SCRATCH_AGE,) * 2)
    return path


def test_what_a_killed_process_left_of_others_is_removed_once_it_is_old(tmp_path):
    left = left_by_a_killed_process(tmp_path / "x-1")
    recent, running = left_by_a_killed_process(tmp_path / "x-2"), f".x-3-{leftovers._host()}-{os.getpid()}-abcdefgh"
    old(left)
    running = old(left_by_a_killed_process(tmp_path / "x-3", running))
    moved = tmp_path / "moved"
    write_folder(moved, {"content": "kept"}, {})
    move_aside(moved)
    old(next(tmp_path.glob(".moved-*")))
    write_json(tmp_path / "new.json", {})
    assert sorted(tmp_path.iterdir()) == sorted([recent, running, moved, tmp_path / "new.json"])
    assert read_folder(moved)[0]["content"] == "kept"


def test_partial_files_of_earlier_versions_are_removed(home, tmp_path):
    for name in ("x.safetensors.partial", "x.partial", f"x.{DEAD}.partial", f"x.{os.getpid()}.partial", "y.partial"):
        (tmp_path / name).touch()
    write_checkpoint(tmp_path / "x.safetensors", {}, {})
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert left == {"x.safetensors", f"x.{os.getpid()}.partial", "y.partial"}
    (tmp_path / "checkpoint.partial").mkdir()
    write_folder(tmp_path / "checkpoint", {}, {})
    old(tmp_path / "y.partial")
    write_json(tmp_path / "y.json", {})
    assert (tmp_path / "y.partial").exists() and not (tmp_path / "checkpoint.partial").exists()  # y's may be another's
    (home / "training").mkdir(parents=True)
    (home / "training" / "recent.partial").touch()
    (home / "training" / "old.1.partial").touch()
    old(home / "training" / "old.1.partial")
    write_json(home / "training" / "y.json", {})
    assert {path.name for path in (home / "training").iterdir()} == {"recent.partial", "y.json"}


# --- a full disk ------------------------------------------------------------------------------------------------------

FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    RuntimeError("file write failed: errno = 28, error message = 'No space left on device', buf = 0x5598, offset = 29"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_full_disk_is_one_line_whatever_the_library_calls_it(error, tmp_path):
    write_json(tmp_path / "x.json", {"content": "old"})
    said = (
        rf"^{tmp_path}/x.json cannot be written: there is no room left on its disk; make room, and do the same again$"
    )
    with pytest.raises(ValueError, match=said), replacing(tmp_path / "x.json") as new:
        new.write_text("half of i")
        raise error
    with pytest.raises(ValueError, match=said), replacing(tmp_path / "x.json"):
        try:
            raise error
        finally:
            raise RuntimeError("closing failed")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert json.loads((tmp_path / "x.json").read_text()) == {"content": "old"}
    with pytest.raises(RuntimeError, match="another"), replacing(tmp_path / "x.json"):
        raise RuntimeError("another mistake")


# --- what is never lost -----------------------------------------------------------------------------------------------


@pytest.fixture(params=["device", "link to a device", "pipe", "folder"])
def no_file(request, tmp_path):
    path = tmp_path / "x.gif"
    if request.param == "device":
        return Path("/dev/full")
    if request.param == "link to a device":
        path.symlink_to("/dev/zero")
    elif request.param == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    return path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
def test_what_is_no_regular_file_is_refused_by_all_that_write_files(no_file):
    before = os.lstat(no_file)
    with pytest.raises(ValueError, match="is no regular file; give another file"):
        write_json(no_file, {})
    with pytest.raises(ValueError, match="is no regular file; give another file"):
        RowLog(no_file, ("a",), ("b",))
    with pytest.raises(ValueError, match="is no regular file; give another file|neither .gif nor .mp4"):
        check_film(no_file)
    if not no_file.is_dir():
        with pytest.raises(ValueError, match="is no folder; give another folder"):
            write_folder(no_file, {}, {})
    assert (os.lstat(no_file).st_mode, os.lstat(no_file).st_ino) == (before.st_mode, before.st_ino)


def test_a_device_is_no_folder_of_policies(save_car, tmp_path):
    training = PolicyTraining(3, "ppo", str(save_car(tmp_path / "car")))
    with pytest.raises(ValueError, match="cannot be written: /dev/null is no folder that you may write to"):
        run_training(training, Path("/dev/null"), progress=False)


def test_links_are_written_through(save_car, tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("a.json", "car"):
        (tmp_path / name).symlink_to(Path("there") / name)
    for name in ("new", "replaced"):
        write_json(tmp_path / "a.json", {"name": name})
        save_car(tmp_path / "car", name=name)
    assert (tmp_path / "a.json").is_symlink() and (tmp_path / "car").is_symlink()
    assert json.loads((tmp_path / "there" / "a.json").read_text()) == {"name": "replaced"}
    assert load_simulator(str(tmp_path / "there" / "car")).card.name == "replaced"


def test_links_inside_a_folder_stay_links(tmp_path):
    write_folder(tmp_path / "a", {}, {})
    (tmp_path / "a" / "endless").symlink_to("/dev/zero")
    write_folder(tmp_path / "a", {}, {})
    assert os.readlink(tmp_path / "a" / "endless") == "/dev/zero"


def test_nothing_bundled_is_written(save_car):
    folder = ASSETS / "simulators" / DEFAULT_SIMULATOR
    for path, write in ((folder, save_car), (folder / CARD, lambda path: write_json(path, {}))):
        with pytest.raises(ValueError, match="is part of persim_gym itself, which is never written to; give another"):
            write(path)


def test_a_folder_keeps_its_rights_and_files_theirs(tmp_path):
    write_folder(tmp_path / "a", {}, {})
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with replacing(tmp_path / "b.txt") as new:
        new.touch()
    (tmp_path / "plain.txt").touch()
    assert (tmp_path / "b.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("folder", sorted(path.parent for path in ASSETS.rglob(CARD)), ids=lambda f: f.parent.name)
def test_what_is_bundled_is_written_again_with_the_same_bytes(folder, tmp_path):
    card, tensors = read_folder(folder)
    write_folder(tmp_path / "again", card, tensors)
    for name in (CARD, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


# --- what is damaged is refused ---------------------------------------------------------------------------------------


def store_again(folder, tensors):
    """Changes some arrays of a folder, and its hash with them."""
    card, old = read_folder(folder)
    write_folder(folder, card, old | tensors)


def says(folder, reason):
    """What a message in one line must be."""
    return rf"^{folder}[^\n]* ([^\n]*{reason}[^\n]*); remove it and make it again[^\n]*$"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "RecursionError"),
        ('{"a": ' * 100_000, "RecursionError"),
        ('{"a": ' + "9" * 5_000 + "}", "cannot be read"),
        (" " * (loading.MAX_JSON_BYTES + 1), "has more than 16,777,216 bytes"),
        ("\udcff", "utf-8"),
        ("7", "no JSON object"),
    ],
    ids=["deep list", "deep object", "long number", "large", "bytes", "number"],
)
def test_a_card_that_is_no_card_is_one_line(save_car, tmp_path, text, reason):
    folder = save_car(tmp_path / "car")
    (folder / CARD).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=says(folder, reason)):
        load_simulator(str(folder))


def test_weights_that_are_no_tensors_or_have_no_end_are_one_line(save_car, tmp_path):
    folder = save_car(tmp_path / "car")
    (folder / WEIGHTS).write_bytes(b"\xff" * 100)
    card = json.loads((folder / CARD).read_text())
    sha256 = hashlib.sha256(b"\xff" * 100).hexdigest()
    (folder / CARD).write_text(json.dumps(card | {"sha256": sha256}))
    with pytest.raises(ValueError, match=says(folder, "SafetensorError")):
        load_simulator(str(folder))
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=says(folder, f"{WEIGHTS} is no regular file")):
        load_simulator(str(folder))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (START_OBS, np.full((2, 2), np.nan, np.float32), "starts.obs in weights.safetensors holds values that are not"),
        (START_OBS, np.zeros((3, 2), np.float32), r"starts.obs .* is float32 \[3, 2\], not of kind f \[2, 2\]"),
        (START_OBS, np.zeros((2, 3), np.float32), r"\[2, 3\], not of kind f \[2, 2\]"),
        (START_AGENTS, np.array([0, 6]), "are not sorted agents of 0–5"),
        (START_AGENTS, np.array([-1, 3]), "are not sorted agents"),
        (START_AGENTS, np.array([3, 1]), "are not sorted agents"),
        (START_AGENTS, np.array([0.0, 1.0]), "is float64"),
        ("action_encoder.factor", np.nan, "action_encoder.factor in weights.safetensors holds values"),
        ("logged_std", np.inf, "logged_std in weights.safetensors holds values"),
        ("obs_low", np.nan, "obs_low in weights.safetensors holds values"),
    ],
)
def test_a_simulator_of_impossible_arrays_is_refused(save_car, tmp_path, name, value, reason):
    folder = save_car(tmp_path / "car")
    store_again(folder, {START_AGENTS: np.array([1, 4]), START_OBS: np.zeros((2, 2), np.float32)})
    assert load_simulator(str(folder)).start_agents.tolist() == [1, 4]
    tensors = read_folder(folder)[1]
    if np.ndim(value) == 0:
        changed = tensors[name].copy()
        changed.flat[0] = value
        value = changed
    store_again(folder, {name: value})
    with pytest.raises(ValueError, match=says(folder, reason)):
        load_simulator(str(folder))


@pytest.mark.parametrize("change", [{"obs_dim": float("inf")}, {"n_agents": None}, {"n_agents": "x"}], ids=str)
def test_impossible_sizes_on_a_card_are_one_line(save_car, tmp_path, change):
    folder = save_car(tmp_path / "car")
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps(card | {"shape": card["shape"] | change}))
    with pytest.raises(ValueError, match=says(folder, "cannot be read")):
        load_simulator(str(folder))


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"0.weight": np.full((256, 4), np.nan, np.float32)}, "0.weight in weights.safetensors holds values"),
        ({"0.weight": np.zeros((256, 5), np.float32)}, r"0.weight .* not of kind f \[any, 4\]"),
        ({"0.bias": np.zeros(63, np.float32)}, r"0.bias .* is float32 \[63\], not of kind f \[256\]"),
        ({"0.bias": np.zeros(256, np.int64)}, r"0.bias .* is int64"),
        ({"9.weight": np.zeros(1), "9.bias": np.zeros(1)}, "lacks"),
    ],
)
def test_a_policy_of_impossible_arrays_is_refused(tmp_path, tensors, reason):
    write_folder(tmp_path / "policy", *read_folder(ASSETS / "policies" / "cartpole" / "test"))
    read_behavior_policy(tmp_path / "policy", "cartpole")
    store_again(tmp_path / "policy", tensors)
    with pytest.raises(ValueError, match=says(tmp_path / "policy", reason)):
        read_behavior_policy(tmp_path / "policy", "cartpole")


def test_a_network_of_another_domain_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not of kind f .any, 2."):
        read_behavior_policy(ASSETS / "policies" / "cartpole" / "test", "mountaincar")


def test_an_array_that_is_missing_is_named():
    with pytest.raises(ValueError, match="^b cannot be read .x in b lacks|b lacks x"), reading("b"):
        checked_array("x", None, (3,), "f", "b")


@pytest.mark.parametrize("name", [ROWS_FILE, "first.npy", "episodes.npy"])
def test_damaged_transitions_of_the_same_size_are_refused(cars, tmp_path, name):
    folder = tmp_path / "rows"
    write_transitions(folder, [cars], n_agents=6, source="cars")
    data = bytearray((folder / name).read_bytes())
    data[-64:-32] = np.random.default_rng(0).bytes(32)
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{folder} cannot be read .* delete it, and it is written again$"):
        TransitionStore(folder)


def test_a_damaged_checkpoint_of_a_logging_policy_is_one_line(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/checkpoint.pt cannot be read [^\n]*; remove it to start anew$"):
        load_checkpoint(None, 0, tmp_path / "checkpoint.pt")


# --- train-policy -----------------------------------------------------------------------------------------------------


class Stop(BaseCallback):
    """Ctrl-C after 72 steps."""

    def _on_step(self):
        if self.num_timesteps >= 72:
            raise KeyboardInterrupt
        return True


@pytest.fixture
def interrupted(save_car, tmp_path, monkeypatch):
    """A training of a policy that was interrupted, and its checkpoint."""
    for name in ("JUDGINGS", "JUDGED_EPISODES", "TESTED_EPISODES"):
        monkeypatch.setattr(train, name, 2)
    small = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}}
    training = PolicyTraining(3, "ppo", str(save_car(tmp_path / "car")), steps=128, n_envs=4, hyperparameters=small)

    def stopped(self, total, callback, learn=PPO.learn, **keywords):
        return learn(self, total, callback=[*callback.callbacks, Stop()], **keywords)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PPO, "learn", stopped)
        run_training(training, tmp_path / "out", progress=False)
    return training, tmp_path / "out" / "agent-3" / "checkpoint"


def test_a_training_whose_checkpoint_a_kill_moved_aside_goes_on(interrupted, monkeypatch):
    training, checkpoint = interrupted
    move_aside(checkpoint)
    begun = []

    def watched(self, total, learn=PPO.learn, **keywords):
        begun.append(self.num_timesteps)
        return learn(self, total, **keywords)

    monkeypatch.setattr(PPO, "learn", watched)
    run_training(training, checkpoint.parent.parent, progress=False)
    assert begun == [72] and [path.name for path in checkpoint.parent.iterdir()] == ["best_model.zip"]


@pytest.mark.parametrize("name", ["card.json", "policy.zip"])
@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_damaged_checkpoint_says_how_to_start_anew(interrupted, name, damage):
    training, checkpoint = interrupted
    data = (checkpoint / name).read_bytes()
    (checkpoint / name).unlink()
    if damage == "torn":
        (checkpoint / name).write_bytes(data[:50])
    with pytest.raises(ValueError, match=rf"^{checkpoint} cannot be read [^\n]*; remove it to start anew$"):
        run_training(training, checkpoint.parent.parent, progress=False)


def test_a_damaged_result_of_a_policy_is_one_line(tmp_path):
    (tmp_path / "agent-3.json").write_text('{"training": 3}')
    with pytest.raises(ValueError, match="agent-3.json cannot be read [^\n]*; remove it to train the policy again$"):
        read_policy(tmp_path / "agent-3.json")


# --- compiled code ----------------------------------------------------------------------------------------------------


def test_compiled_code_goes_to_a_temporary_folder_where_nothing_else_can_be_written(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    paths.find_room_for_compiled_code()
    assert "NUMBA_CACHE_DIR" not in os.environ and capsys.readouterr().err == ""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_relative_to(tmp_path))
    monkeypatch.setattr(paths.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(paths.atexit, "register", lambda *args, **keywords: None)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    paths.find_room_for_compiled_code()
    assert os.environ["NUMBA_CACHE_DIR"] == numba.config.CACHE_DIR == str(tmp_path)
    assert "set NUMBA_CACHE_DIR to a folder of yours" in capsys.readouterr().err
    paths.find_room_for_compiled_code()  # as a worker process does
    assert capsys.readouterr().err == ""


def test_what_another_process_is_writing_stays(tmp_path):
    with storage.scratch_folder(tmp_path / "data") as mine:
        with storage.scratch_folder(tmp_path / "data") as other:
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
    storage.remove_left_behind(tmp_path / "data-v0")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".data-v0-new_____", ".other-v0-old_____"]


def test_a_folder_is_written_and_read_whole(tmp_path):
    tensors = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array([1, 2], dtype=np.int64)}
    write_folder(tmp_path / "new" / "folder", {"name": "x"}, tensors)
    card, read = read_folder(tmp_path / "new" / "folder")
    assert (card["name"], sorted(read)) == ("x", ["a", "b"])
    for name, values in tensors.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype
