"""A table becomes a Minari dataset: transitions, names, runs, and what is said of the rest."""

import minari
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from gymnasium import spaces
from support.tables import SMALL, small_rows, write_csv

from persim_gym.actions import ScoreBox
from persim_gym.datasets import from_table, labels_of, load
from persim_gym.datasets.minari_adapter import ACTION_PARTS, MISSING, spec_of_dataset
from persim_gym.datasets.minari_files import dataset_folder, open_minari
from persim_gym.datasets.tables import spaces as table_spaces
from persim_gym.datasets.tables.write import TABLE


@pytest.fixture(autouse=True)
def own_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def imported(columns, name="my/small-v0", **changes):
    """A dataset from columns, as flat transitions, and what its metadata keep of the table."""
    dataset = from_table(pa.table(columns), name=name, progress=False, **{**SMALL, **changes})
    return dataset, load(name), dataset.storage.metadata[TABLE]


def test_a_row_is_observation_action_and_reward_and_the_next_row_what_follows():
    dataset, data, _ = imported(small_rows())
    assert data.agent.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.obs[:, 0].tolist() == [0.0, 1.5, 2.5, 10.0, 11.5, 12.5]
    assert data.next_obs[:, 0].tolist() == [1.5, 2.5, 3.5, 11.5, 12.5, 13.5]
    assert dataset.action_space == spaces.Discrete(2)
    assert data.action.tolist() == [1, 0, 1, 0, 0, 1]  # down, up
    np.testing.assert_allclose(data.reward, [0.1, 0.2, 0.3, 0.5, 0.6, 0.7], rtol=1e-6)
    labels = labels_of(dataset)
    assert (labels.agents, labels.observations, labels.choices) == (("A-1", "A-2"), ("x",), ("down", "up"))
    assert minari.load_dataset("my/small-v0").total_episodes == 2


@pytest.mark.parametrize(
    "kind", ["csv", "tsv", "semicolons", "bom", "utf-16", "parquet", "pandas", "arrow", "two files"]
)
def test_every_kind_of_table_gives_the_same_data(kind, tmp_path):
    columns, options = small_rows(), {}
    source: object = pa.table(columns)
    if kind == "csv":
        source = write_csv(tmp_path / "t.csv", columns)
    elif kind == "tsv":
        source = write_csv(tmp_path / "t.tsv", columns, delimiter="\t")
    elif kind == "semicolons":
        source = write_csv(tmp_path / "t.csv", columns, delimiter=";", decimal=",")
        options = {"delimiter": ";", "decimal": ","}
    elif kind == "bom":
        source = write_csv(tmp_path / "t.csv", columns, encoding="utf-8-sig")
    elif kind == "utf-16":
        source, options = write_csv(tmp_path / "t.csv", columns, encoding="utf-16"), {"encoding": "utf-16"}
    elif kind == "parquet":
        pa.parquet.write_table(source, tmp_path / "t.parquet")
        source = tmp_path / "t.parquet"
    elif kind == "pandas":
        source = pd.DataFrame(columns).astype({"id": "category"})
    elif kind == "two files":
        halves = [{name: values[part] for name, values in columns.items()} for part in (slice(5), slice(5, None))]
        source = [write_csv(tmp_path / f"{i}.csv", half) for i, half in enumerate(halves)]
    from_table(source, name="my/kind-v0", progress=False, **SMALL, **options)
    _, expected, _ = imported(columns)
    found = load("my/kind-v0")
    for name in ("agent", "obs", "action", "reward", "next_obs", "terminated", "trajectory"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_a_missing_cell_leaves_out_the_transition_from_it_and_a_part_of_that_to_it():
    x = [0.0, None, 2.5, 3.5, 10.0, 11.5, 12.5, 13.5]
    _, data, table = imported(small_rows(x=x, r=[0.1, 0.2, 0.3, 0.4, 0.5, None, 0.7, None]))
    assert data.obs[:, 0].tolist() == [0.0, 2.5, 10.0, 11.5, 12.5]
    np.testing.assert_array_equal(data.next_obs[:, 0], [np.nan, 3.5, 11.5, 12.5, 13.5])
    np.testing.assert_allclose(data.reward, [0.1, 0.3, 0.5, np.nan, 0.7], rtol=1e-6)
    assert data.trajectory.tolist() == [0, 0, 1, 1, 1] and data.pieces.tolist() == [0, 1, 2, 2, 2]
    assert "1 cell of x missing: 1 of 6 transitions left out, 1 counts in part" in table["said"]
    assert "2 cells of r missing: 1 of 6 transitions counts in part" in table["said"]
    assert "together 1 of 6 transitions left out (16.7%), 2 count in part, most of A-1 2, A-2 1" in table["said"]
    assert table["transitions"] == 5 and table["episodes"] == 2


def test_infinite_values_are_missing():
    _, data, _ = imported(small_rows(x=[0.0, np.inf, 2.5, 3.5, 10.0, 11.5, 12.5, np.nan]))
    assert data.obs[:, 0].tolist() == [0.0, 2.5, 10.0, 11.5, 12.5]
    assert np.isnan(data.next_obs[[0, 4], 0]).all()


@pytest.mark.parametrize(
    ("roles", "missing", "kept"),
    [
        ({"action": "a"}, ["up", None, "up", "up", "down", "down", "up", "down"], [1, 1, 0, 0, 1]),
        ({"action": ["a", "b"], "b": [1, 1, 2, 2] * 2}, ["up", None, *["up"] * 6], [0, 1, 0, 0, 1]),
        ({"action": "a"}, [0.5, None, 1.5, 2.5, 0.5, 0.75, 1.0, 9.5], [[0.5], [1.5], [0.5], [0.75], [1.0]]),
        (
            {"action": ["a", "b"], "b": [0.5, 1.5, 2.5, 3.5] * 2},
            [0.5, None, 1.5, 2.5, 0.5, 0.75, 1.0, 9.5],
            [[0.5, 0.5], [1.5, 2.5], [0.5, 0.5], [0.75, 1.5], [1.0, 2.5]],
        ),
    ],
    ids=["choice", "choices", "amount", "amounts"],
)
def test_a_missing_action_leaves_out_its_transition(roles, missing, kept):
    columns = {name: values for name, values in roles.items() if name != "action"}
    dataset, data, table = imported(small_rows(a=missing, **columns), action=roles["action"])
    assert data.obs[:, 0].tolist() == [0.0, 2.5, 10.0, 11.5, 12.5] and data.action.tolist() == kept
    assert "1 cell of a missing: 1 of 6 transitions left out" in table["said"]
    episodes = list(dataset.iterate_episodes())
    if dataset.action_space == spaces.Discrete(2):
        assert [e.infos["action_missing"].tolist() for e in episodes] == [[False, True, False, False], [False] * 4]
        assert dataset.action_space.contains(episodes[0].actions[1])
    else:
        assert np.isnan(episodes[0].actions[1, 0]) and dataset.action_space.high[0] == 1.5


def test_a_choice_that_only_left_out_transitions_show_is_none():
    _, data, _ = imported(small_rows(x=[0.0, None, *[2.5] * 6], a=["up", "reverse", *["up", "down"] * 3]))
    assert data.action.tolist() == [1, 1, 1, 0, 1] and labels_of(open_minari("my/small-v0")).choices == ("down", "up")


def test_runs_are_cut_at_gaps_and_not_at_missing_cells():
    dataset, data, _ = imported(small_rows(t=[0, 1, 2, 3, 0, 1, 9, 10], x=[0.0, None, *[2.5] * 6]))
    assert [len(e.rewards) for e in dataset.iterate_episodes()] == [3, 1, 1] and len(data) == 4


def test_an_agent_without_a_usable_transition_is_named():
    _, data, table = imported(small_rows(x=[*[None] * 4, 10.0, 11.5, 12.5, 13.5]))
    assert data.n_agents == 1 and "1 of 2 agents left out, without a usable transition: A-1" in table["said"]


def test_a_table_without_missing_cells_is_marked_by_nothing():
    dataset, data, _ = imported(small_rows())
    assert MISSING not in dataset.storage.metadata and not data.missing and data.step is None
    dataset, data, table = imported(small_rows(x=[None, *[2.5] * 7]), name="my/lacking-v0")
    card = (dataset_folder("my/lacking-v0") / "card.md").read_text(encoding="utf-8")
    assert dataset.storage.metadata[MISSING] is True and data.missing and "| missing values | NaN;" in card


def test_runs_end_at_gaps_and_at_ends_of_episodes():
    failed = [0, 1, 0, 0, 0, 0, 0, 1]
    dataset, data, table = imported(small_rows(t=[0, 1, 2, 3, 0, 1, 9, 10], end=failed), terminated="end")
    assert data.obs[:, 0].tolist() == [0.0, 2.5, 10.0, 12.5]
    assert data.terminated.tolist() == [True, False, False, True]
    assert [bool(e.truncations[-1]) for e in dataset.iterate_episodes()] == [False, True, True, False]
    assert "the usual step is 1; a run ends at a step of more than 3, 3 times the usual step (1 gap)" in table["said"]
    assert len(imported(small_rows(t=[0, 1, 2, 3, 0, 1, 9, 10]), name="my/other-v0", gap=8)[1]) == 6


def test_categories_are_one_hot_in_observations():
    mode = ["eco", "turbo", "eco", "eco", "turbo", None, "eco", "eco"]
    dataset, data, table = imported(
        small_rows(mode=mode, code=[1, 2] * 4), obs=["x", "mode", "code"], categorical=["code"]
    )
    assert labels_of(dataset).observations == ("x", "mode=eco", "mode=turbo", "code=1", "code=2")
    assert data.obs[0].tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert dataset.observation_space.high.tolist() == [np.inf, 1, 1, 1, 1]
    assert table["categories"]["mode"] == ["eco", "turbo"] and len(data) == 5
    np.testing.assert_array_equal(data.next_obs[3], [11.5, np.nan, np.nan, 0.0, 1.0])


def test_categories_of_pandas_are_categories():
    frame = pd.DataFrame(small_rows(code=[1, 2] * 4)).astype({"code": "category", "a": "category"})
    dataset = from_table(frame, name="my/small-v0", progress=False, **{**SMALL, "obs": ["x", "code"]})
    assert labels_of(dataset).observations == ("x", "code=1", "code=2") and labels_of(dataset).choices == ("down", "up")


def test_numbers_that_are_texts_say_so():
    texts = small_rows(
        id=["A"] * 200, t=list(range(200)), x=[f"{i}.5" for i in range(200)], a=["u"] * 200, r=[0.0] * 200
    )
    with pytest.raises(ValueError, match="column x has 200 different texts.*store its numbers as numbers"):
        imported(texts)


def test_an_end_may_be_said_in_words():
    _, data, _ = imported(small_rows(end=["no", "Yes", "no", "no", "no", "no", "no", "no"]), terminated="end")
    assert data.terminated.tolist() == [True, False, False, False, False]
    with pytest.raises(ValueError, match="column end holds 'maybe', which says neither yes nor no; make it 1 and 0"):
        imported(small_rows(end=["no", "maybe"] * 4), name="my/other-v0", terminated="end")


def test_action_columns_of_numbers_are_a_box_of_what_was_logged():
    dataset, data, _ = imported(small_rows(a=[0.5, -1.5, 0.25, 0.5, 0, 1, 2, 9], b=[1, 2] * 4), action=["a", "b"])
    assert dataset.action_space.low.tolist() == [-1.5, 1] and dataset.action_space.high.tolist() == [2, 2]
    assert data.action[:2].tolist() == [[0.5, 1], [-1.5, 2]]
    assert labels_of(dataset).actions == ("a", "b")


def test_a_few_whole_numbers_are_choices_unless_they_are_called_amounts():
    doses = small_rows(a=[0, 5, 0, 5, 10, 0, 5, 5])
    dataset, data, _ = imported(doses)
    assert labels_of(dataset).choices == ("0", "5", "10") and data.action.tolist() == [0, 1, 0, 2, 0, 1]
    dataset, data, _ = imported(doses, name="my/amounts-v0", continuous=["a"])
    assert isinstance(dataset.action_space, spaces.Box) and data.action[:2, 0].tolist() == [0, 5]


def test_several_choices_are_one_of_the_combinations_that_were_seen():
    dataset, data, _ = imported(small_rows(b=[True, False, True, True, False, False, True, False]), action=["a", "b"])
    assert labels_of(dataset).choices == ("a=down, b=0", "a=up, b=1") and data.action.tolist() == [1, 0, 1, 0, 0, 1]


def test_numbers_and_choices_together_stay_side_by_side():
    dataset, data, _ = imported(small_rows(b=[0.5, 1.5] * 4), action=["a", "b"])
    labels, space = labels_of(dataset), spec_of_dataset(dataset).action_space
    assert labels.actions == ("a=down", "a=up", "b") and not labels.choices
    assert isinstance(space, ScoreBox) and space.layout.sizes == (2, 0)
    assert (space.low.tolist(), space.high.tolist()) == ([-1, -1, 0.5], [1, 1, 1.5])
    assert data.action.tolist()[:3] == [[0, 1, 0.5], [1, 0, 1.5], [0, 1, 0.5]]
    assert isinstance(dataset.action_space, spaces.Box) and dataset.storage.metadata[ACTION_PARTS] == [2, 0]


def test_choices_of_too_many_combinations_stay_side_by_side_too(monkeypatch):
    monkeypatch.setattr(table_spaces, "MAX_COMBINATIONS", 1)
    dataset, data, _ = imported(small_rows(b=[True, False] * 4), action=["a", "b"])
    space = spec_of_dataset(dataset).action_space
    assert isinstance(space, spaces.MultiDiscrete) and space.nvec.tolist() == [2, 2]
    assert labels_of(dataset).actions == ("a=down", "a=up", "b=0", "b=1") and data.action[0].tolist() == [0, 1, 0, 1]


def test_exogenous_static_and_times_stay_with_the_dataset():
    columns = small_rows(
        load=[float(i) for i in range(8)], age=[30] * 4 + [None] * 3 + [41], site=["n"] * 4 + ["s"] * 4
    )
    dataset, data, table = imported(columns, exogenous=["load"], static=["age", "site"], units={"x": "°C"})
    episodes = list(dataset.iterate_episodes())
    assert episodes[1].observations[:, 1].tolist() == [4, 5, 6, 7]
    layout = spec_of_dataset(dataset).layout
    assert (layout.learned, layout.exogenous) == (1, 1) and labels_of(dataset).observations == ("x", "load")
    assert episodes[1].infos["time"].tolist() == [0, 1, 2, 3]
    assert table["static"] == {"age": [30, 41], "site": ["n", "s"]} and data.obs_dim == 2
    card = (dataset_folder("my/small-v0") / "card.md").read_text(encoding="utf-8")
    for text in ("x (°C)", "exogenous inputs | load", "static columns | age, site", "A-1, A-2", "2 choices, down, up"):
        assert text in card


def test_every_puts_rows_together():
    columns = small_rows(t=[0, 1, 2, 3, 0, 1, 2, 3])
    dataset, data, _ = imported(columns, every=2)
    assert data.obs[:, 0].tolist() == [0.0, 10.0] and data.next_obs[:, 0].tolist() == [2.5, 12.5]
    np.testing.assert_allclose(data.reward, [0.1 + 0.2, 0.5 + 0.6], rtol=1e-6)
    assert [e.infos["time"].tolist() for e in dataset.iterate_episodes()] == [[0, 2], [0, 2]]


def test_every_keeps_the_row_that_ends_an_episode():
    _, data, _ = imported(small_rows(end=[0, 1, 0, 0, 0, 0, 0, 0]), every=2, terminated="end")
    assert data.next_obs[:, 0].tolist() == [1.5, 12.5] and data.terminated.tolist() == [True, False]


@pytest.mark.parametrize("ids", [range(1, 9), ["1", "2", "3", "4", "5", "6", "7", "8"]])
def test_agents_that_are_numbers_keep_them(ids):
    ids = [i for i in ids for _ in range(2)]
    columns = {"id": ids, "t": [0, 1] * 8, "x": [float(i) for i in range(16)], "a": ["u", "v"] * 8, "r": [0.0] * 16}
    dataset, data, _ = imported(columns)
    labels = labels_of(dataset)
    assert labels.agents == ("8", "1", "2", "3", "4", "5", "6", "7")
    for number in range(1, 9):
        assert data.obs[data.agent == labels.agent_number(number, 8), 0].tolist() == [2.0 * (number - 1)]


def test_agents_that_are_numbered_from_0_need_no_names():
    dataset, data, _ = imported(small_rows(id=[1] * 4 + [0] * 4))
    assert labels_of(dataset).agents == () and sorted(set(data.agent.tolist())) == [0, 1]
    assert data.obs[data.agent == 0, 0].tolist() == [10.0, 11.5, 12.5]


def test_agents_without_a_transition_are_named_and_left_out():
    columns = small_rows(id=["A-1"] * 4 + ["A-2"] * 3 + ["A-3"])
    _, data, table = imported(columns)
    assert data.n_agents == 2
    assert "1 of 3 agents left out, without a usable transition: A-3" in table["said"]


def test_a_dataset_that_is_there_is_replaced_with_force_alone():
    imported(small_rows())
    with pytest.raises(ValueError, match="there is a dataset my/small-v0 already; --force replaces it"):
        imported(small_rows())
    assert len(imported(small_rows(x=[0.0, None] + [1.0] * 6), force=True)[1]) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "fleet"}, "--name 'fleet' is no name of a dataset; write it as my/fleet-v0"),
        ({"name": "persim/cartpole/random-v0"}, "is the name of one of persim_gym's own datasets"),
        ({"obs": []}, "no --obs; name the column"),
        ({"obs": ["x", "x"]}, "--obs has x twice"),
        ({"obs": ["xx"]}, "the table has no column 'xx'; known: id, t, x, a, r"),
        ({"time": "id"}, "column id is given as --agent and as something else; choose one"),
        ({"gap": "5min"}, "--gap 5min has a unit, but times are numbers"),
        ({"every": "soon"}, "--every soon is no length of time"),
        ({"time": "", "gap": 5}, "--gap and --every are lengths of time; give --time too"),
        ({"units": {"y": "m"}}, "--unit y is no column that is used"),
        ({"continous": ["a"]}, "there is no option continous; did you mean continuous"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(changes, said):
    with pytest.raises(ValueError, match=said):
        from_table(pa.table(small_rows()), **{"name": "my/small-v0", "progress": False, **SMALL, **changes})
    assert not dataset_folder("my/small-v0").exists()


def test_columns_of_whole_numbers_are_told_apart_and_only_those_are_taken():
    columns = small_rows(seats=[3.0, 2.0, 2.0, 0.0] * 2)
    dataset, _, _ = imported(columns, obs=["x", "seats"], integer=["seats"])
    assert labels_of(dataset).integers == ("seats",) and labels_of(dataset).integer_columns == (1,)
    with pytest.raises(ValueError, match="--integer x: the column has values such as 1.5; leave it out there"):
        imported(columns, "my/other-v0", obs=["x", "seats"], integer=["x"])
    with pytest.raises(ValueError, match="--integer r is not observed"):
        imported(columns, "my/other-v0", obs=["x", "seats"], integer=["r"])
    texts = small_rows(kind=["a", "b"] * 4)
    with pytest.raises(ValueError, match="--integer kind: the column is of categories"):
        imported(texts, "my/other-v0", obs=["x", "kind"], integer=["kind"])
    assert not dataset_folder("my/other-v0").exists()
