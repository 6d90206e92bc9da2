"""Tables from rows: what stands in a cell and under a table, and that each form can be read."""

import csv
import io
import re
import shutil
import subprocess

import pytest
from support.table_rows import a_row, rows_of

from persim_gym.reproduce.protocol import METHODS, TABLES
from persim_gym.reproduce.tables import as_csv, as_latex, as_markdown, notes, own_tables, reproduced_table, scale

NAMES = list(TABLES)
COMMANDS = re.compile(r"\\([a-zA-Z]+)")


def lines_of_markdown(text):
    """Cells of each line of each table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("name", NAMES)
def test_markdown_has_a_line_for_every_dataset_size_and_method(name):
    table = TABLES[name]
    lines = lines_of_markdown(as_markdown(reproduced_table(table, rows_of(name))))
    own_data = [method for method in table.methods if method != "true-mpc"]
    body = len(table.domains) * len(table.datasets) * len(table.sizes) * len(own_data) + ("true-mpc" in table.methods)
    assert len(lines) == len(table.metrics) * (body + 2)
    assert len({len(line) for line in lines}) == 1  # Every line has all columns.


def test_a_markdown_cell_is_ours_beside_the_thesis_and_bold_where_ours_is_no_worse():
    rows = [a_row(value=-50.0, seed=0), a_row(value=-52.0, seed=1), a_row(agent="1", value=-80.0)]
    lines = lines_of_markdown(as_markdown(reproduced_table(TABLES["B.4"], rows)))
    (line,) = (line for line in lines if line[:2] == ["random", "PerSim"])
    assert line[2:] == [
        "**-51.00 ± 1.41** / -57.70 ± 5.63",
        "-80.00 / -74.30 ± 6.39",
        "– / -120.4 ± 2.17",
        "– / -186.6 ± 4.25",
        "– / -210.1 ± 4.48",
    ]
    assert lines[-1][:3] == ["none", "True env + MPC", "– / -53.95 ± 4.10"]


def test_faulty_cells_have_a_mark_and_a_footnote_and_no_bold():
    rows = [a_row("B.9", n_agents=250, value=0.001)]
    text = as_markdown(reproduced_table(TABLES["B.9"], rows))
    assert "| 250 | PerSim | 0.0010 / 1.387† |" in text and "4.811 |" in text and "0.238‡" in text
    assert (
        "\n\n† The thesis's rows of PerSim and Unfactorized differ" in text and "\n\n‡ The thesis's row repeats" in text
    )
    assert "\n\nThe thesis heads these columns" in text  # It is of no cell, and has no mark.


def test_missing_cells_are_counted_under_the_table():
    rows = [a_row("B.5", str(agent)) for agent in range(3)]
    line = notes(reproduced_table(TABLES["B.5"], rows))[0]
    assert "122 of 125 cells not run" in line
    assert "160 of 160 cells not run" in notes(reproduced_table(TABLES["B.7"], []))[0]
    assert "Ours: nothing." in notes(reproduced_table(TABLES["B.7"], []))[0]


def test_the_line_under_a_table_says_how_many_cells_are_no_worse_and_the_scale():
    rows = [a_row(value=-50.0), a_row(agent="3", value=-200.0), a_row(method="true-mpc", value=-60.0, n_agents=500)]
    line = notes(reproduced_table(TABLES["B.4"], rows))[0]
    assert "in 1 of 3 cells" in line
    assert "Ours: PerSim, True env + MPC 1 trial × 5 episodes." in line
    assert "The thesis: 5 trials × 20 episodes, 100 of BCQ." in line


def test_methods_that_were_run_alike_are_named_together_with_what_differs_from_the_thesis():
    rows = [
        a_row(),
        a_row(seed=1),
        a_row(agent="1"),
        a_row(method="cadm", settings="8,000 steps"),
        a_row(method="pe-ts-cadm", settings="8,000 steps"),
        a_row(method="bcq-p", settings="30,000 updates", episodes=20),
    ]
    assert scale(reproduced_table(TABLES["B.4"], rows)) == (
        "PerSim 1–2 trials × 5 episodes; Vanilla CaDM, PE-TS CaDM 1 trial × 5 episodes (8,000 steps); "
        "BCQ-P 1 trial × 20 episodes (30,000 updates)"
    )


@pytest.mark.parametrize(
    ("better", "other"),
    [
        ({"episodes": 20, "settings": "candidates=50"}, {"episodes": 5, "settings": "as the thesis"}),
        ({"settings": "as the thesis"}, {"settings": "candidates=2000"}),
        ({"settings": "candidates=100 horizon=30"}, {"settings": "candidates=50 horizon=10 episode_steps=100"}),
        ({"settings": "training_steps=550000"}, {"settings": "training_steps=30000"}),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_of_several_rows_of_one_trial_that_of_the_largest_effort_counts(better, other, order):
    rows = [a_row(value=-60.0, **better), a_row(value=-50.0, **other), a_row(agent="1", domain="cartpole")]
    cells = reproduced_table(TABLES["B.4"], rows[::order]).run
    assert [(cell.agent, cell.mean, len(cell.rows)) for cell in cells] == [("0", -60.0, 1)]


def test_logs_are_compared_with_nothing():
    rows = rows_of("A.1", "thesis", trials=1)
    reproduced = reproduced_table(TABLES["A.1"], rows)
    assert len(reproduced.run) == len(reproduced.cells) == 144 and not reproduced.compared
    text = as_markdown(reproduced)
    assert "**Logged length**" in text and "| domain | data | agent 0 |" in text and "| all agents |" in text
    assert "0 of 144 cells not run" in text


@pytest.mark.parametrize("name", NAMES)
def test_latex_is_ascii_balanced_and_escaped(name):
    text = as_latex(reproduced_table(TABLES[name], rows_of(name, settings="50% of $5 & #1_a {b} ~^\\ <|> é")))
    assert text.isascii()
    bare = re.sub(r"\\[{}%$&#_\\]", "", text)  # What is escaped is text.
    assert bare.count("{") == bare.count("}")
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert bare.count("$") % 2 == 0 and not set("#_~") & set(bare)
    assert re.findall(r"\\begin\{(\w+)\}", text).count("tabular") == text.count(r"\end{tabular}")
    known = {
        "usepackage", "begin", "end", "centering", "caption", "par", "smallskip", "medskip", "resizebox", "textwidth",
        "toprule", "midrule", "bottomrule", "textbf", "pm", "times", "dagger", "ddagger", "footnotesize",
        "textbackslash", "textasciitilde", "textasciicircum",
    }  # fmt: skip
    assert set(COMMANDS.findall(bare)) <= known
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.S):
        columns = {line.count(" & ") for line in body.splitlines() if line.endswith(r"\\")}
        assert len(columns) == 1


def test_latex_has_the_cells_of_markdown():
    rows = [a_row(value=-50.0), a_row(value=-52.0, seed=1), a_row("B.8", n_agents=100, value=0.02)]
    text = as_latex(reproduced_table(TABLES["B.4"], rows))
    assert r"\textbf{$-$51.00 $\pm$ 1.41} / $-$57.70 $\pm$ 5.63 & -- / $-$74.30 $\pm$ 6.39" in text
    assert r"0.0200 / 0.007$^\dagger$" in as_latex(reproduced_table(TABLES["B.8"], rows))
    assert r"\caption{Thesis Table B.4. Average reward: MountainCar.}" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path):
    tables = "\n".join(as_latex(reproduced_table(table, rows_of(name))) for name, table in TABLES.items())
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    document = "\n".join([head, tables, r"\end{document}"])
    (tmp_path / "tables.tex").write_text(document, encoding="ascii")
    run = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    assert subprocess.run(run, cwd=tmp_path, capture_output=True, timeout=120).returncode == 0


@pytest.mark.parametrize("name", NAMES)
def test_csv_has_a_row_for_every_cell(name):
    reproduced = reproduced_table(TABLES[name], rows_of(name))
    rows = list(csv.DictReader(io.StringIO(as_csv(reproduced))))
    assert len(rows) == len(reproduced.cells)
    for row, cell in zip(rows, reproduced.cells, strict=True):
        assert (row["table"], row["method"], row["agent"], row["metric"]) == (
            name,
            cell.method,
            cell.agent,
            cell.metric,
        )
        assert row["method"] in METHODS and int(row["trials"]) == len(cell.rows)
        assert row["mean"] == ("" if cell.mean is None else f"{cell.mean:.10g}")
        assert row["no_worse"] == {None: "", True: "true", False: "false"}[cell.no_worse]
        assert row["fault"] == ("" if cell.fault is None else cell.fault.sentence)


def test_a_csv_row_says_all_of_its_cell():
    rows = [a_row(value=-50.0), a_row(value=-52.0, seed=1)]
    text = as_csv(reproduced_table(TABLES["B.4"], rows)).splitlines()
    (line,) = (line for line in text if line.startswith("B.4,mountaincar,random,500,persim,0,"))
    assert line == "B.4,mountaincar,random,500,persim,0,return,-51,1.414213562,2,5,-57.7,5.63,6.7,true,,"


def test_returns_of_shortened_episodes_are_marked_and_compared_with_nothing():
    rows = [a_row("B.6", value=90.0, settings="candidates=50 episode_steps=100"), a_row("B.6", agent="1", value=3000.0)]
    reproduced = reproduced_table(TABLES["B.6"], rows)
    text = as_markdown(reproduced)
    assert "| random | PerSim | 90¶ / 2124 ± 518 | **3000** / 2060 ± 900 |" in text
    assert "\n\n¶ Of episodes that were ended" in text and "in 1 of 1 cells" in text
    assert r"90$^\P$ / 2124" in as_latex(reproduced)
    (line,) = (line for line in as_csv(reproduced).splitlines() if ",random,500,persim,0," in line)
    assert line == "B.6,halfcheetah,random,500,persim,0,return,90,,1,5,2124,518,,,,candidates=50 episode_steps=100"


def test_the_same_rows_give_the_same_table_in_any_order():
    rows = rows_of("B.1")
    one, other = (reproduced_table(TABLES["B.1"], given) for given in (rows, rows[::-1]))
    assert as_markdown(one) == as_markdown(other) and as_latex(one) == as_latex(other) and as_csv(one) == as_csv(other)


def test_tables_that_repeat_others_are_not_counted_twice():
    assert [own.table.name for own in own_tables([], "return")] == ["B.4", "B.5", "B.6", "B.10", "B.11", "B.12"]
    assert len(own_tables([])) == 13
