"""Loading: any Minari dataset with agents, refused with the remedy when something is wrong."""

import warnings
from types import SimpleNamespace

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage
from minari.storage import get_dataset_path
from support.tanks import AGENTS, tank_logs, tanks_of

from persim_gym.datasets import load_minari
from persim_gym.datasets.collect import build
from persim_gym.datasets.load import load, load_for_training, open_dataset
from persim_gym.datasets.minari_adapter import MISSING, spec_of_dataset
from persim_gym.datasets.registry import dataset_spec
from persim_gym.envs import DOMAINS
from persim_gym.observation_layout import LoggedSeries
from persim_gym.workflows.history import spec_with_history

# Minari advises to record an author, a description and the like.
pytestmark = pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari")
CARTPOLE = "persim/cartpole/random-v0"


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


def test_our_datasets_are_loaded_by_both_spellings_of_their_names(minari_folder, place_dataset):
    place_dataset(CARTPOLE, minari_folder)
    whole, short = load(CARTPOLE), load(CARTPOLE.removeprefix("persim/"))
    assert whole.source == short.source == CARTPOLE
    assert whole.content_hash() == short.content_hash()
    assert list(minari.list_local_datasets()) == [CARTPOLE]


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


TEXT = spaces.Text(8)
ROD = spaces.Box(-1, 1, (1,))
UNFIT = {  # Minari cannot store a sequence itself; other backends of its interface may.
    "a sequence": (spaces.Sequence(spaces.Discrete(4)), "observations must be numbers of a fixed size, not Sequence"),
    "a text": (TEXT, r"observations must be numbers of a fixed size, not Text\(.*write the dataset without them"),
    "a text inside": (
        spaces.Dict({"rod": ROD, "said": TEXT}),
        r"observations\['said'\] must be numbers of a fixed size",
    ),
    "a text deep inside": (
        spaces.Dict({"a": spaces.Tuple([ROD, spaces.Dict({"b": TEXT})])}),
        r"observations\['a'\]\[1\]\['b'\] must be numbers of a fixed size, not Text",
    ),
    "images": (
        spaces.Dict({"camera": spaces.Box(0, 255, (8, 8, 3), np.uint8), "speed": ROD}),
        r"observations\['camera'\] hold images.* write the dataset with features",
    ),
    "a billion choices": (spaces.Discrete(10**9), "observations are 1,000,000,000 numbers when they are flat; at most"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_observations_that_are_no_vectors_are_refused_by_field(kind):
    space, said = UNFIT[kind]
    dataset = SimpleNamespace(
        spec=SimpleNamespace(dataset_id="mine/words-v0"), observation_space=space, action_space=spaces.Discrete(2)
    )
    with pytest.raises(ValueError, match=f"^mine/words-v0: {said}"):
        load_minari(dataset)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (TEXT, "actions must be choices or numbers of a fixed size, not Text"),
        (
            spaces.Dict(a=spaces.Discrete(2), b=TEXT),
            r"actions\['b'\] must be choices or numbers of a fixed size, not Text",
        ),
        (spaces.MultiDiscrete([2, 2], start=[0, 1]), "actions must count choices from 0"),
        (spaces.Discrete(10**12), "actions are 1,000,000,000,000 numbers or choices; at most 100,000 are served"),
    ],
)
def test_actions_that_no_simulator_takes_are_refused(space, said):
    dataset = SimpleNamespace(
        spec=SimpleNamespace(dataset_id="mine/words-v0"), observation_space=ROD, action_space=space
    )
    with pytest.raises(ValueError, match=f"^mine/words-v0: {said}"):
        load_minari(dataset)


def test_texts_that_minari_stored_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space = spaces.Dict({"level": spaces.Box(-9, 9, (2,)), "said": TEXT})
    name = tanks_of("said-v0", [0], space, observations=lambda rows: {"level": rows, "said": ["a"] * len(rows)})
    with pytest.raises(ValueError, match=r"said-v0: observations\['said'\] must be numbers of a fixed size"):
        load(name)


@pytest.mark.parametrize("memory", [None, 1.0], ids=["memory", "disk"])
@pytest.mark.parametrize(
    ("action_space", "actions", "said"),
    [
        (spaces.Discrete(2), lambda n: np.zeros((n, 2), int), r"has actions of int64 \[60, 2\], which are not of Disc"),
        (spaces.Discrete(2), lambda n: np.zeros(n), r"has actions of float64 \[60\], which are not of Discrete"),
        (
            spaces.Box(-1, 1, (2,)),
            lambda n: np.zeros((n, 3)),
            r"has actions of float64 \[60, 3\], which are not of Box",
        ),
        (spaces.Box(-1, 1, (2,)), lambda n: np.zeros(n), r"has actions of float64 \[60\], which are not of Box"),
        (spaces.Box(-1, 1, (2,)), lambda n: np.zeros((n, 2), "S1"), r"has actions of \|S1 \[60, 2\], which are not of"),
    ],
    ids=["two choices", "real choices", "wide", "narrow", "texts"],
)
def test_actions_of_another_kind_or_size_than_their_space_are_refused(
    action_space, actions, said, memory, tmp_path, monkeypatch, home
):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    second = iter([False, True])
    fits = (lambda n: np.zeros(n, int)) if isinstance(action_space, spaces.Discrete) else (lambda n: np.zeros((n, 2)))
    name = tanks_of(
        "odd-v0", [0, 1], action_space=action_space, actions=lambda a: (actions if next(second) else fits)(len(a))
    )
    with pytest.raises(ValueError, match=f"^odd-v0: episode 1 {said}"):
        load_for_training(open_dataset(name), memory=memory)


def test_one_action_a_step_may_lack_its_dimension_or_have_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name = tanks_of("valve-v0", [0], action_space=spaces.Box(-1, 1, (1,)), actions=lambda a: np.zeros(len(a)))
    assert load(name).action.shape == (60, 1)
    assert (
        load(tanks_of("switch-v0", [0], actions=lambda a: a[:, None])).action.tolist()
        == tank_logs()[0]["actions"].tolist()
    )


OBSERVED = spaces.Dict({"level": spaces.Box(-9, 9, (2,)), "pump": spaces.Discrete(2, start=5)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"level": lambda rows: rows[:, :1]}, r"observations\['level'\] of float32 \[61, 1\], which are not of Box"),
        ({"level": lambda rows: rows[:-1]}, "observations whose parts have 60 and 61 rows"),
        ({"pump": lambda rows: rows + 1}, r"observations\['pump'\] from 6 to 7, outside of Discrete\(2, start=5\)"),
        ({"pump": lambda rows: rows - 1}, r"observations\['pump'\] from 4 to 5, outside of Discrete\(2, start=5\)"),
        ({"pump": lambda rows: rows + 0.5}, r"observations\['pump'\] of float64 \[61\]"),
        ({"pump": None}, r"no observations\['pump'\], which its space has"),
    ],
)
def test_observations_of_another_kind_or_size_than_their_space_are_refused(change, said, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def parts(rows):
        whole = {"level": rows, "pump": 5 + np.arange(len(rows)) % 2}
        return {
            key: change.get(key, lambda x: x)(part) for key, part in whole.items() if change.get(key, 0) is not None
        }

    name = tanks_of("parts-v0", [0], OBSERVED, observations=parts)
    if said is None:
        assert load(name).obs[:2, 2:].tolist() == [[1, 0], [0, 1]]
        return
    with pytest.raises(ValueError, match=f"^parts-v0: episode 0 has {said}"):
        load(name)


@pytest.mark.parametrize("memory", [None, 1.0], ids=["memory", "disk"])
@pytest.mark.parametrize("part", ["observations", "actions", "terminations"])
def test_wrong_lengths_that_make_up_for_each_other_are_refused(part, memory, tmp_path, monkeypatch, home):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    wrong = iter([lambda rows: rows, lambda rows: rows[:-1], lambda rows: np.concatenate([rows, rows[:1]])])
    name = tanks_of("lengths-v0", [0, 1, 2], **{part: lambda rows: next(wrong)(rows)})
    has = {"observations": 60}.get(part, 59)
    said = rf"episode 1 \(agent 1\) has 60 rewards, to which belong 61 observations .* but {has} {part}; drop or"
    with pytest.raises(ValueError, match=f"^lengths-v0: {said}"):
        load_for_training(open_dataset(name), memory=memory)


def test_an_unknown_dataset_lists_what_can_be_built(minari_folder):
    with pytest.raises(ValueError, match="no dataset 'persim/cartpole/expert-v0'") as error:
        load("persim/cartpole/expert-v0")
    assert "did you mean cartpole/" in str(error.value)
    with pytest.raises(ValueError, match="did you mean cartpole/"):
        dataset_spec("persim/cartpole/expert-v0")


@pytest.mark.parametrize("agents", [(2, 0), ("2", "0"), (np.int32(2), np.int64(0)), (2.0, 0.0)], ids=str)
def test_an_agent_may_be_any_whole_number(agents, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    data = load(tanks_of("numbers-v0", agents))
    assert (data.n_agents, data.starts()[0].tolist()) == (3, [2, 0])


@pytest.mark.parametrize("agents", [(0, 1.7), (0, float("inf")), (0, float("nan")), (0, -1), (0, "1.5")], ids=str)
def test_an_agent_that_is_not_whole_is_refused_with_its_episode(agents, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.raises(ValueError, match="of episode 1 is no whole number; number them from 0"):
        load(tanks_of("parts-v0", agents))


def test_agents_are_kept_when_datasets_are_combined(eight_carts, tmp_path):
    build(eight_carts, progress=False)
    once = minari.load_dataset(CARTPOLE)
    twice = minari.combine_datasets([once, once], "both-v0")
    assert not any("options" in m or "agent" in m for m in twice.storage.get_episode_metadata(range(16)))
    alone, both = load_minari(once), load("both-v0")
    np.testing.assert_array_equal(both.agent, np.tile(alone.agent, 2))
    np.testing.assert_array_equal(both.obs, np.tile(alone.obs, (2, 1)))


def test_steps_that_name_several_agents_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    infos = iter([{"agent": np.zeros(61, int)}, {"agent": np.arange(61) // 60}])
    name = tanks_of("mixed-v0", [None, None], infos=lambda _: next(infos))
    with pytest.raises(ValueError, match=r"mixed-v0: agent \[0, 1\] of episode 1 is no whole number"):
        load(name)


def test_agents_that_would_leave_millions_of_numbers_out_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert load(tanks_of("few-v0", [3, 10_199])).n_agents == 10_200  # 100 numbers an agent, and 10,000 more
    with pytest.raises(ValueError, match="its 2 agents go up to number 10,200, and"):
        load(tanks_of("more-v0", [3, 10_200]))
    assert load(tanks_of("three-v0", [3, 5, 10_299])).n_agents == 10_300
    with pytest.raises(ValueError, match="its 2 agents go up to number 1,000,000,000, .*from 0 without gaps"):
        load(tanks_of("customers-v0", [3, 10**9]))


@pytest.mark.parametrize("memory", [None, 1.0], ids=["memory", "disk"])
@pytest.mark.parametrize(
    ("box", "changes", "said"),
    [
        (spaces.Box(-0.5, 0.5, (2,)), {}, r"episode 0 has observations 0 from .* outside of its space, -0.5 to 0.5"),
        (None, {"actions": lambda a: a + 7}, r"episode 0 has actions 7 to 8, outside of Discrete\(2\)"),
    ],
    ids=["observations", "actions"],
)
def test_values_outside_of_their_space_are_refused(box, changes, said, memory, tmp_path, monkeypatch, home):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = open_dataset(tanks_of("outside-v0", [0, 1], box, **changes))
    with pytest.raises(ValueError, match=f"outside-v0: {said}"):
        load_for_training(dataset, memory=memory)


@pytest.mark.parametrize("most", [1.0, 1.000009, -1.0, -1.000009, 1.5, 1.00002, -1.5, -1.00002])
def test_continuous_actions_outside_of_their_space_are_refused(most, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    logs = [{**log, "actions": np.full((len(log["actions"]), 1), most, dtype=np.float32)} for log in tank_logs()]
    buffers = [EpisodeBuffer(**log, options={"agent": agent}) for agent, log in enumerate(logs)]
    obs, act = spaces.Box(-np.inf, np.inf, (2,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
    minari.create_dataset_from_buffers("pumps-v0", buffers, observation_space=obs, action_space=act)
    if abs(most) <= 1.00001:  # Rounding is no mistake.
        assert load("pumps-v0").action.shape[1] == 1
        return
    with pytest.raises(
        ValueError, match=f"episode 0 has actions 0 from {most:g} to {most:g}, outside of its space, -1 to 1; .*clip"
    ):
        load("pumps-v0")


@pytest.mark.parametrize("memory", [None, 1.0], ids=["memory", "disk"])
def test_a_value_that_is_not_finite_is_named_with_its_episode(memory, tmp_path, monkeypatch, home):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spoilt = iter([1.0, 1.0, np.nan, 1.0, 1.0, 1.0, 1.0, 1.0])
    name = tanks_of("nan-v0", range(AGENTS), rewards=lambda r: r * next(spoilt))
    with pytest.raises(ValueError, match=r"reward of transition \d+ \(episode 2, agent 2\) is not finite"):
        load_for_training(open_dataset(name), memory=memory)


def test_a_clock_that_float32_cannot_follow_is_pointed_out(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    def clock(obs, start):
        return np.column_stack([obs[:, 0], start + np.arange(len(obs))]).astype(np.float64)

    from_zero = tanks_of("clock-v0", [0, 1], observations=lambda obs: clock(obs, 0.0))
    from_1970 = tanks_of("clock-v1", [0, 1], observations=lambda obs: clock(obs, 1.7e9))
    load(from_zero)
    with pytest.warns(UserWarning, match="observation 1 changes by less than float32 resolves .* subtract a constant"):
        load(from_1970)


@pytest.mark.parametrize(("lost", "warned"), [(0.08, False), (0.11, True)])
def test_a_tenth_of_the_changes_is_what_float32_may_lose(lost, warned, tmp_path, monkeypatch):
    """Float32 keeps every second whole number from 2 ** 24 on: of steps by 8 / (1 - lost) it keeps 8.

    The episode that loses is not the last one, and the other adds next to nothing.
    """
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))

    first = iter([True, False])

    def shaken(rows):
        step = 8 / (1 - lost) if next(first) else 1e-3
        return np.column_stack([rows[:, 0], 2.0**24 * (step > 1) + step * (np.arange(len(rows)) % 2)])

    name = tanks_of("shaken-v0", [0, 1], observations=shaken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(name)
    said = [str(w.message) for w in caught if "float32" in str(w.message)]
    assert [text.startswith("shaken-v0: observation 1 changes by less than float32") for text in said] == [
        True
    ] * warned


# --- missing values -------------------------------------------------------------------------------------------------


def lacking_tanks(name, action=None, marked=True, nothing=()):
    """Tanks whose second log lacks a level in its fourth observation, and an action; of some, nothing is observed."""
    logs = tank_logs()
    for agent in nothing:
        logs[agent]["observations"][:] = np.nan
    logs[1]["observations"][3, 0] = np.nan
    spoilt = [{**log, "infos": {"action_missing": np.zeros(len(log["observations"]), dtype=bool)}} for log in logs]
    if action is not None:
        spoilt[1]["infos"]["action_missing"][action] = True
    buffers = [EpisodeBuffer(**log, options={"agent": n}) for n, log in enumerate(spoilt)]
    box = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    dataset = minari.create_dataset_from_buffers(name, buffers, observation_space=box, action_space=spaces.Discrete(2))
    if marked:
        dataset.storage.update_metadata({MISSING: True})
    return minari.load_dataset(name)


def test_a_value_that_is_missing_is_refused_in_data_that_say_nothing_of_it(minari_folder):
    lacking_tanks("my/tanks-v0", marked=False)
    with pytest.raises(ValueError, match=r"obs of transition \d+ \(episode 1, agent 1\) is not finite"):
        load("my/tanks-v0")


def test_transitions_from_what_is_missing_are_left_out(minari_folder):
    whole = [len(log["rewards"]) for log in tank_logs()]
    data = load_minari(lacking_tanks("my/tanks-v0", action=7))
    assert len(data) == sum(whole) - 2 and data.missing
    own = data.select(data.agent == 1)
    assert own.step.tolist() == [n for n in range(whole[1]) if n not in (3, 7)]
    assert np.argwhere(np.isnan(own.next_obs)).tolist() == [[2, 0]]
    assert len(data.starts()[0]) == AGENTS


def test_what_is_missing_is_missing_on_disk(minari_folder, home):
    dataset = lacking_tanks("my/tanks-v0", action=7)
    data, file = load_minari(dataset), load_for_training(dataset, memory=0)
    again = file.sample(AGENTS)
    for name in ("obs", "next_obs", "action", "reward", "trajectory", "pieces"):
        np.testing.assert_array_equal(getattr(again, name), getattr(data, name), err_msg=name)


def test_an_episode_without_a_whole_observation_is_left_out(minari_folder, home):
    some, none = lacking_tanks("my/some-v0", nothing=[0, 5]), lacking_tanks("my/none-v0", nothing=range(AGENTS))
    for data in (load_minari(some), load_for_training(some, memory=0)):
        assert data.starts()[0].tolist() == [1, 2, 3, 4, 6, 7] and data.n_agents == AGENTS
    with pytest.raises(ValueError, match="my/none-v0: all .* transitions lack a value of observation or action"):
        load_minari(none)


def remembering(dataset):
    """The tanks' spec with two past levels, and a running average of what was done."""
    return spec_with_history(spec_of_dataset(dataset), {"observation 0": 2, "action": "decay:4"})


def test_a_past_that_is_missing_leaves_out_what_needs_it(minari_folder, home):
    dataset = lacking_tanks("my/tanks-v0", action=7)
    spec = remembering(dataset)
    data, file = load_minari(dataset, spec), load_for_training(dataset, memory=0, spec=spec)
    own = data.select(data.agent == 1)
    length = len(tank_logs()[1]["rewards"])
    assert own.step.tolist() == [n for n in range(2, length) if n not in (3, 4, 5, 7)]  # observation 3 is missing
    log = tank_logs()[1]
    np.testing.assert_allclose(own.obs[1:, 2], log["observations"][own.step[1:] - 1, 0])
    np.testing.assert_allclose(own.obs[1:, 3], log["observations"][own.step[1:] - 2, 0])
    keep, pushed = np.exp(-1 / 4), (log["actions"] == 1).astype(float)
    average = [np.delete(pushed, 7).mean()]
    for step, push in enumerate(pushed):
        average.append(average[-1] if step == 7 else keep * average[-1] + (1 - keep) * push)
    np.testing.assert_allclose(own.obs[:, -1], np.array(average)[own.step], rtol=1e-5)
    np.testing.assert_allclose(own.next_obs[:, -1], np.array(average)[own.step + 1], rtol=1e-5)
    for name in ("obs", "next_obs", "pieces"):
        np.testing.assert_array_equal(getattr(file.sample(AGENTS), name), getattr(data, name), err_msg=name)


def test_a_past_of_which_nothing_is_missing_is_that_of_data_that_are_not_marked(minari_folder):
    dataset = minari.load_dataset(tanks_of("my/whole-v0", range(3)))
    spec = remembering(dataset)
    plain = load_minari(dataset, spec)
    dataset.storage.update_metadata({MISSING: True})
    marked = load_minari(minari.load_dataset("my/whole-v0"), spec)
    for name in ("obs", "next_obs", "action", "trajectory"):
        np.testing.assert_allclose(getattr(plain, name), getattr(marked, name), rtol=1e-6, err_msg=name)
    np.testing.assert_array_equal(plain.obs, marked.obs)


def test_a_series_from_outside_holds_its_value_where_steps_are_missing(minari_folder):
    dataset = lacking_tanks("my/tanks-v0", action=7)
    data = load_minari(dataset)
    whole = LoggedSeries.from_transitions(data, slice(1, 2))
    expected = tank_logs()[1]["observations"][:, 1]
    np.testing.assert_array_equal(whole.of(1)[:, 0], expected)  # What followed the step before a gap is known too.
    held = LoggedSeries.from_transitions(data.select((data.agent == 1) & (data.step != 6)), slice(1, 2)).of(0)[:, 0]
    np.testing.assert_array_equal(np.flatnonzero(held != expected), [7])
    assert held[7] == expected[6]
