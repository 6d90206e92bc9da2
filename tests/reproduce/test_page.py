"""Pages with markers, the page of results among them, hold what the rows give."""

import re
from pathlib import Path

import pytest
from support.table_rows import rows_of

from persim_gym.reproduce.page import END, filled, results_page
from persim_gym.reproduce.protocol import TABLES
from persim_gym.reproduce.results import read_results
from persim_gym.reproduce.tables import as_markdown, reproduced_table

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^    persim reproduce --table (\S+) --scale committed$", re.M)
REMEDY = "the rows in results/ give another text: python docs/results.py"


@pytest.fixture(scope="module")
def results():
    return read_results(sorted((ROOT / "results").glob("reproduce*.csv")))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tables_in_documents_are_what_the_rows_give(path, results):
    text = path.read_text(encoding="utf-8")
    assert filled(text, results) == text, REMEDY


def test_what_stands_between_markers_is_made_anew_and_all_else_stays():
    rows = rows_of("5.2a")
    page = f"# Title\n\n<!-- toc -->\n\n<!-- table: 5.2a -->\nOLD\n{END}\n\ntext\n\n<!-- losses -->\n{END}\nlast\n"
    once = filled(page, rows)
    table = as_markdown(reproduced_table(TABLES["5.2a"], rows)).strip()
    before, after = "# Title\n\n<!-- toc -->\n\n<!-- table: 5.2a -->\n\n", f"\n\n{END}\n\ntext\n\n<!-- losses -->"
    assert once.startswith(f"{before}{table}{after}")
    assert once.endswith(f"{END}\nlast\n") and "OLD" not in once
    assert filled(once, rows) == once
    assert filled(once, []) != once


def test_a_page_without_markers_stays():
    plain = f"# Title\n\nPut `<!-- table: B.4 -->` and `{END}` on lines of their own.\n"
    assert filled(plain, []) == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"<!-- table: B.44 -->\n{END}\n", "no table 'B.44'; did you mean B.4"),
        (f"<!-- table -->\n{END}\n", "no table ''"),
        (f"<!-- looses -->\n{END}\n", "no part 'looses'; did you mean losses?"),
        (f"<!-- wins: B.4 -->\n{END}\n", "no part 'wins' of a table"),
        ("<!-- table: B.4 -->\n| a |\n", "right after what each one holds"),
        (f"| a |\n{END}\n", "right after what each one holds"),
        (f"<!-- table: B.4 -->\n<!-- table: B.5 -->\n{END}\n", "right after what each one holds"),
    ],
)
def test_wrong_markers_are_refused(text, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        filled(text, [])
    assert "\n" not in str(error.value)


def test_the_page_of_results_has_each_table_that_was_run_with_its_command():
    rows = [*rows_of("B.4"), *rows_of("A.1", "thesis", 1)]
    page = results_page(rows, "## Discussion\n\nWhy.\n", {"factors.png": "Latent factors"})
    names = ("5.2a", "A.1", "B.4")
    assert COMMAND.findall(page) == list(names)
    assert re.findall(r"^### Table (\S+):", page, re.M) == list(names)
    assert "Not run: 5.2b, 5.2c, 5.3, B.1," in page
    for name in names:
        assert f"<!-- table: {name} -->\n\n{as_markdown(reproduced_table(TABLES[name], rows)).strip()}\n" in page
    assert "![Latent factors](images/reproduce/factors.png)" in page
    assert page.count("\n- ") == 5 and page.endswith("## Discussion\n\nWhy.\n")
    assert "<!-- interquartile: B.4 -->" in page and "<!-- interquartile: A.1 -->" not in page
    assert filled(page, rows) == page and "{" not in page


def test_the_discussion_has_wins_losses_and_what_does_not_reproduce():
    page = results_page(rows_of("B.5"))
    heads = re.findall(r"^## (.+)$", page, re.M)
    assert heads == [
        "Tables",
        "Where PerSim wins",
        "Where it loses",
        "What of the thesis does not reproduce, and why",
    ]
    assert "| B.5 | Average reward: CartPole | Return |" in page and "<!-- faults -->\n\n- Table A.1:" in page


def test_the_committed_page_is_the_one_that_its_rows_make(results):
    page = ROOT / "docs" / "results.md"
    if page.exists():
        assert COMMAND.findall(page.read_text(encoding="utf-8")) == [
            name for name, table in TABLES.items() if reproduced_table(table, results).run
        ]
