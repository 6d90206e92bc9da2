"""Bad tables: one line each that says what is wrong and what to do, and nothing written."""

import gzip
import re
import sys

import pandas as pd
import pytest
from support.tables import SMALL, small_rows, write_csv

from persim_gym.datasets import from_table
from persim_gym.datasets.minari_files import dataset_folder
from persim_gym.datasets.tables.read import read_table
from persim_gym.datasets.tables.roles import Dialect

CSV = "id,t,x,a,r\n"
ROWS = "A,0,1.5,up,1\nA,1,2.5,down,1\nA,2,3.5,up,1\nA,3,4.5,up,1\n"


@pytest.fixture(autouse=True)
def own_datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


BAD = {
    "empty": ("", "t.csv is empty; export the table again"),
    "header alone": (CSV, "t.csv has no rows; a transition takes two rows of one agent"),
    "one row": (CSV + "A,0,1,up,1\n", "t.csv has one row; a transition takes two rows"),
    "semicolons": (
        (CSV + ROWS).replace(",", ";"),
        "t.csv has one column, 'id;t;x;a;r', if ',' stands between columns; add --delimiter ';'",
    ),
    "tabs": ((CSV + ROWS).replace(",", "\t"), "add --delimiter tab"),
    "a column twice": (
        "id,t,x,a,r,x\nA,0,1,up,1,1\nA,1,1,up,1,1\n",
        "t.csv has 2 columns 'x'; rename all but one",
    ),
    "no such column": ("id,t,xs,a,r\n" + ROWS, "t.csv has no column 'x'; did you mean xs"),
    "a longer row": (CSV + ROWS + "A,4,1,up,1,9\n", "t.csv cannot be read"),
    "numbers and text": (
        CSV + ROWS.replace("2.5", "ERR"),
        "column x mixes numbers and text: 'ERR' in 1 row, first in row 2; repair it, or call it missing: --missing ERR",
    ),
    "commas as decimals": (
        CSV + re.sub(r"(\d)\.5", r'"\1,5"', ROWS),
        "column x has commas as decimals ('1,5'); add --decimal ,",
    ),
    "dates of two kinds": (
        CSV + "A,2024-01-01 10:00,1,up,1\nA,01/02/2024,2,up,1\nA,2024-01-03 10:00,3,down,1\n",
        "column t holds times of two kinds, '2024-01-01 10:00' (line 2) and '01/02/2024' (line 3); write all alike",
    ),
    "dates of another kind": (
        CSV + "A,31.12.2024,1,up,1\nA,01.01.2025,2,up,1\n",
        "column t holds times as '31.12.2024'; say how they are written, as --time-format",
    ),
    "an agent a row": (
        CSV + "".join(f"A{i},{i},1.5,up,1\n" for i in range(9)),
        "column id names 9 agents in 9 rows, and a transition takes two rows of one agent; give --agent a column",
    ),
    "text without groups": (
        CSV + "".join(f"A,{i},note {i},up,1\n" for i in range(150)),
        "column x has 150 different texts, such as 'note 0'; categories are at most 100",
    ),
    "a reward in words": (
        CSV + ROWS.replace(",1\n", ",good\n"),
        "column r holds text such as 'good'; a reward is a number",
    ),
    "all missing": (
        CSV + re.sub(r"[134]\.5", "", ROWS),
        "no transition is left: each lacks a value",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_table_is_one_line_with_the_remedy(kind, tmp_path):
    text, said = BAD[kind]
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as error:
        from_table(tmp_path / "t.csv", name="my/bad-v0", progress=False, **SMALL)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not dataset_folder("my/bad-v0").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("fleet.xlsx", b"PK", "fleet.xlsx is neither CSV nor Parquet by its name; save the table as CSV"),
        ("fleet.parquet", b"PAR0", "fleet.parquet is no Parquet file that can be read"),
        ("fleet.csv", CSV.encode("utf-16"), "fleet.csv is in UTF-16; add --encoding utf-16"),
        (
            "fleet.csv",
            (CSV + ROWS).replace("id", "nämn").encode("latin-1"),
            "is not in utf-8; give --encoding, as latin-1",
        ),
        ("fleet.csv", (CSV + ROWS).replace("up", "på").encode("latin-1"), "give --encoding, as latin-1"),
        ("fleet.csv", b"\0" * 3, "fleet.csv has no column 'id'"),
    ],
)
def test_a_file_of_another_kind_says_how_to_read_it(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        from_table(tmp_path / name, name="my/bad-v0", progress=False, **SMALL)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_names_those_like_it(tmp_path):
    write_csv(tmp_path / "machines.csv", small_rows())
    with pytest.raises(ValueError, match=r"there is no file .*machine.csv; did you mean machines.csv"):
        from_table(tmp_path / "machine.csv", name="my/bad-v0", **SMALL)


def test_a_frame_of_mixed_types_and_what_is_no_table_are_refused():
    with pytest.raises(ValueError, match="the table has a column of mixed types .*x.*; make it numbers or text"):
        from_table(pd.DataFrame(small_rows(x=[1, "a", 2.5, 3, 4, 5, 6, 7])), name="my/bad-v0", **SMALL)
    with pytest.raises(ValueError, match="a int is no table"):
        from_table(17, name="my/bad-v0", **SMALL)


def test_files_whose_columns_differ_in_kind_are_refused(tmp_path):
    one = write_csv(tmp_path / "1.csv", small_rows())
    two = write_csv(tmp_path / "2.csv", small_rows(x=["a"] * 8))
    with pytest.raises(ValueError, match="columns of different kinds"):
        from_table([one, two], name="my/bad-v0", **SMALL)


def test_zipped_and_multiline_files_are_read(tmp_path):
    text = (CSV + ROWS).replace("down", '"do\nwn"')
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    table = read_table(tmp_path / "t.csv.gz", ["a", "id"], Dialect(), texts=["id"])
    assert table.column("a").to_pylist() == ["up", "do\nwn", "up", "up"]


def test_identifiers_stay_texts(tmp_path):
    (tmp_path / "t.csv").write_text("id,x\n007,1\n0012,2\n", encoding="utf-8")
    assert read_table(tmp_path / "t.csv", ["id"], Dialect(), texts=["id"]).column("id").to_pylist() == ["007", "0012"]


def test_what_counts_as_missing_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("id,x\nA,1.5\nA,ERR\nA,-999\n", encoding="utf-8")
    column = read_table(tmp_path / "t.csv", ["x"], Dialect(missing=("ERR", "-999"))).column("x")
    assert column.to_pylist() == [1.5, None, None]


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'persim-gym\[tables\]'"):
        from_table("t.csv", name="my/bad-v0", **SMALL)
