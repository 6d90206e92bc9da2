"""The thesis's cells by our names, and what is wrong with them."""

import pytest

from persim_gym.reproduce.protocol import LOGS, METHODS, SCALES, TABLES, cells_of
from persim_gym.reproduce.published import FAULTS, fault_of, faults_of, thesis_cell


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (("B.4", "mountaincar", "random", 500, "persim", "0", "return"), "-57.70 ± 5.63"),
        (("5.2a", "mountaincar", "random", 500, "persim", "4", "return"), "-210.1 ± 4.48"),
        (("B.4", "mountaincar", "-", 500, "true-mpc", "3", "return"), "-182.9 ± 22.9"),
        (("B.5", "cartpole", "pure-eps-40", 500, "bcq-a", "2", "return"), "7.180 ± 0.76"),
        (("B.6", "halfcheetah", "pure-eps-20", 500, "pe-ts-cadm", "4", "return"), "2843 ± 204"),
        (("5.2c", "halfcheetah", "pure", 500, "bcq-p", "1", "return"), "2006 ± 153"),
        (("B.1", "mountaincar", "pure", 500, "cadm", "4", "r2"), "-30.148"),
        (("B.2", "cartpole", "random", 500, "persim", "4", "rmse"), "0.152"),
        (("B.3", "halfcheetah", "pure", 500, "persim", "1", "r2"), "0.574"),
        (("B.7", "mountaincar", "random", 50, "unfactorized", "1", "rmse"), "0.140"),
        (("B.8", "cartpole", "random", 25, "persim", "4", "r2"), "-390"),
        (("B.9", "halfcheetah", "random", 25, "pe-ts-cadm", "2", "rmse"), "7.426"),
        (("B.10", "mountaincar", "random", 25, "unpersonalized", "4", "return"), "-412.9 ± 62.4"),
        (("B.11", "halfcheetah", "random", 100, "unfactorized", "4", "return"), "1154.24 ± 93.3"),
        (("B.12", "cartpole", "random", 50, "persim", "0", "return"), "199.75 ± 0.35"),
        (("A.1", "cartpole", "pure-eps-20", 500, "logging", "all", "logged-length"), "158.92"),
        (("A.1", "halfcheetah", "random", 500, "logging", "0", "logged-return"), "-395.58"),
        # Tables 5.3 and B.10 differ in this row alone.
        (("5.3", "mountaincar", "random", 100, "cadm", "2", "return"), "-264.0 ± 110"),
        (("B.10", "mountaincar", "random", 100, "cadm", "2", "return"), "-307.13 ± 96.17"),
        (("5.3", "mountaincar", "random", 50, "bcq-p", "2", "return"), "-428.1 ± 103"),
    ],
)
def test_cells_are_as_the_thesis_prints_them(cell, text):
    name, *place = cell
    published = thesis_cell(TABLES[name], *place)
    assert published.text == text
    value, _, std = text.partition(" ± ")
    assert published.value == float(value) and published.std == (float(std) if std else None)
    assert published.places == len(value.partition(".")[2])


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_the_thesis_has_every_cell_that_is_run_for_its_tables(table):
    for cell in cells_of([table], SCALES["thesis"]):
        for metric in cell.metrics:
            place = cell.domain, cell.dataset, cell.n_agents, cell.method, cell.agent, metric
            printed = thesis_cell(table, *place) is not None
            assert printed or (metric == LOGS[1] and cell.agent != "all"), place  # Lengths are of all agents only.


def test_what_the_thesis_does_not_print_is_none():
    assert thesis_cell(TABLES["B.4"], "cartpole", "random", 500, "persim", "0", "return") is None
    assert thesis_cell(TABLES["B.4"], "mountaincar", "random", 250, "persim", "0", "return") is None


@pytest.mark.parametrize(
    ("name", "method", "n_agents", "agents"),
    [
        ("B.6", "true-mpc", 500, "124"),
        ("5.2c", "true-mpc", 500, "124"),
        ("B.8", "persim", 100, "01234"),
        ("B.8", "unfactorized", 100, "01234"),
        ("B.9", "cadm", 25, "01234"),
        ("B.9", "persim", 250, "01234"),
        ("B.10", "cadm", 100, "01234"),
        ("5.3", "cadm", 100, "01234"),
        ("B.11", "persim", 250, "0"),
        ("B.8", "persim", 50, ""),
        ("B.8", "cadm", 100, ""),
        ("B.6", "persim", 500, ""),
        ("5.2a", "true-mpc", 500, ""),
    ],
)
def test_faulty_cells(name, method, n_agents, agents):
    table = TABLES[name]
    assert "".join(agent for agent in "01234" if fault_of(table, method, n_agents, agent)) == agents


def test_rows_that_are_called_copies_are_copies():
    def row(name, domain, n_agents, method, metric):
        cells = [thesis_cell(TABLES[name], domain, "random", n_agents, method, agent, metric) for agent in "01234"]
        return [cell.value for cell in cells]

    for metric in ("rmse", "r2"):
        for method in ("persim", "unfactorized"):
            assert row("B.8", "cartpole", 100, method, metric) == row("B.7", "mountaincar", 100, method, metric)
        assert row("B.9", "halfcheetah", 25, "cadm", metric) == row("B.7", "mountaincar", 25, "cadm", metric)
        twins = zip(*(row("B.9", "halfcheetah", 250, m, metric) for m in ("persim", "unfactorized")), strict=True)
        assert sum(one != other for one, other in twins) == (metric == "rmse")
    cells = [("B.11", "halfcheetah", "random", 250), ("B.10", "mountaincar", "random", 250)]
    copied, origin = (thesis_cell(TABLES[name], *place, "persim", "0", "return") for name, *place in cells)
    assert copied.std == origin.std == 0.41


def test_no_whole_number_of_cars_reached_the_goal_if_it_gave_plus_one():
    cars = []
    for dataset in ("pure", "random", "pure-eps-20", "pure-eps-40"):
        place = TABLES["A.1"], "mountaincar", dataset, 500, "logging", "all"
        length, reward = thesis_cell(*place, "logged-length").value, thesis_cell(*place, "logged-return").value
        cars.append(500 * (length + reward))  # Each that arrives spares the reward of its last step.
    assert cars == pytest.approx([round(number) for number in cars], abs=1e-6)
    assert any(round(number) % 2 for number in cars)  # With +1 each would spare two.


def test_every_fault_is_of_a_table_and_says_something():
    for fault in FAULTS:
        assert fault in faults_of(TABLES[fault.table])
        assert set(fault.methods) <= set(METHODS) and fault.sentence.endswith(".")
