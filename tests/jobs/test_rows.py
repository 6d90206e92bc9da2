"""The table of finished jobs: every row is kept, whatever was cut off."""

import csv

import pytest

from persim_gym.jobs import RowLog


def new_log(path):
    return RowLog(path, ("agent", "seed"), ("value",))


def test_a_log_keeps_its_rows(tmp_path):
    path = tmp_path / "new" / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -123.5})
    for each in (log, new_log(path)):
        assert each.get({"agent": 3, "seed": 0}) == {"agent": "3", "seed": "0", "value": "-123.5"}
        assert each.get({"agent": 3, "seed": 1}) is None
    assert [p.name for p in path.parent.iterdir()] == ["log.csv"]


def test_rows_are_found_by_their_keys_alone(tmp_path):
    log = new_log(tmp_path / "log.csv")
    log.add({"seed": 0, "agent": 3, "other": 9}, {"value": 1})
    assert log.get({"agent": "3", "seed": 0})["value"] == "1"


@pytest.mark.parametrize("kept", range(1, 9))
def test_a_line_that_was_cut_off_anywhere_is_dropped(tmp_path, kept):
    path = tmp_path / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -1.5})
    whole = path.read_bytes()
    log.add({"agent": 4, "seed": 0}, {"value": -123})
    path.write_bytes(path.read_bytes()[: len(whole) + kept])  # of "4,0,-123\r\n"
    again = new_log(path)
    assert again.get({"agent": 4, "seed": 0}) is None
    assert again.get({"agent": 3, "seed": 0})["value"] == "-1.5"
    again.add({"agent": 4, "seed": 0}, {"value": -123})
    assert new_log(path).get({"agent": 4, "seed": 0})["value"] == "-123"


@pytest.mark.parametrize(
    "text", ["agent,value\n3,-1.5\n", "agent,seed,value,more\n3,0,-1.5,2\n", "\nmy notes\n", "notes"]
)
def test_another_table_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="log.csv is another table .* give another file, or --force to replace it"):
        new_log(path)
    assert path.read_text(encoding="utf-8") == text
    path.write_text("", encoding="utf-8")
    assert new_log(path).get({"agent": 3, "seed": 0}) is None


def test_a_log_can_be_begun_anew(tmp_path):
    path = tmp_path / "log.csv"
    new_log(path).add({"agent": 3, "seed": 0}, {"value": 1})
    assert RowLog(path, ("agent", "seed"), ("value",), force=True).get({"agent": 3, "seed": 0}) is None
    path.write_text("another table\n", encoding="utf-8")
    assert RowLog(path, ("agent", "seed"), ("value",), force=True).get({"agent": 3, "seed": 0}) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"agent,seed,value\n3,0," + b"9" * 200_000 + b"\n", "field larger than field limit"),
        (b"agent,seed,value\n3,0,\xff\n", "utf-8"),
    ],
    ids=["long field", "bytes"],
)
def test_a_file_that_is_no_table_is_one_line_and_left_as_it_is(content, said, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} cannot be read \([^\n]*{said}[^\n]*\); give another file"):
        new_log(path)
    assert path.read_bytes() == content


def metric_log(path):
    return RowLog(path, ("agent", "metric"), ("value",))


ROWS = [{"metric": "rmse", "value": 0.5}, {"metric": "r2", "value": 0.25}]


def test_rows_of_a_job_that_were_cut_off_are_there_once_in_the_end(tmp_path):
    log = metric_log(tmp_path / "log.csv")
    log.add({"agent": 3, "other": "left out"}, ROWS)
    whole = (tmp_path / "log.csv").read_bytes()
    assert whole.splitlines() == [b"agent,metric,value", b"3,rmse,0.5", b"3,r2,0.25"]
    for kept in range(len("agent,metric,value\r\n"), len(whole) - 1, 5):
        (tmp_path / "cut.csv").write_bytes(whole[:kept])
        again = metric_log(tmp_path / "cut.csv")
        assert again.get({"agent": 3, "metric": "r2"}) is None
        again.add({"agent": 3}, ROWS)
        assert (tmp_path / "cut.csv").read_bytes() == whole  # No row is there twice.


@pytest.mark.parametrize(("row", "lacking"), [({"metric": "r2"}, "value"), ({"value": 1}, "metric")])
def test_a_row_with_a_hole_is_refused_and_nothing_is_written(tmp_path, row, lacking):
    log = metric_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match=f"a row of .*log.csv lacks {lacking}; it has"):
        log.add({"agent": 3}, [*ROWS, row])
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == []
    assert log.get({"agent": 3, "metric": "rmse"}) is None
