"""Grids of cells: what is missing is run, once; what fails is listed, and the others are kept."""

import pytest
from support.cells import SMALL

from persim_gym.jobs import JobsFailed
from persim_gym.reproduce.protocol import NO_DATA, PREDICTION, RETURN, Cell
from persim_gym.reproduce.results import read_results
from persim_gym.reproduce.run import RESULTS_FILE, missing_cells, open_results, run_cells


def cell(method, agent, metrics=RETURN, dataset="random"):
    return Cell("cartpole", dataset, method, 25, str(agent), 0, metrics)


GRID = [
    *(cell("true-mpc", agent, dataset=NO_DATA) for agent in range(2)),
    *(cell("bcq-p", agent) for agent in range(2)),
    *(cell("cadm", agent, PREDICTION) for agent in range(2)),
]


def test_what_is_missing_is_run_once(tmp_path):
    run_cells(GRID[:3], SMALL, tmp_path, progress=False, workers=2)
    first = (tmp_path / RESULTS_FILE).read_text()
    models = {path: path.stat().st_mtime_ns for path in tmp_path.glob("models/*/card.json")}
    run_cells(GRID, SMALL, tmp_path, progress=False, workers=2)
    whole = (tmp_path / RESULTS_FILE).read_text()
    assert whole.startswith(first) and not missing_cells(GRID, SMALL, open_results(tmp_path))
    rows = read_results([tmp_path / RESULTS_FILE])
    assert len(rows) == 8 and {(r.method, r.metric) for r in rows} == {
        ("true-mpc", "return"),
        ("bcq-p", "return"),
        ("cadm", "rmse"),
        ("cadm", "r2"),
    }
    assert len(list(tmp_path.glob("models/*/card.json"))) == 2
    assert all(path.stat().st_mtime_ns == at for path, at in models.items())
    run_cells(GRID, SMALL, tmp_path, progress=False)
    assert (tmp_path / RESULTS_FILE).read_text() == whole


def test_a_cell_or_a_training_that_fails_is_listed_and_the_others_are_kept(tmp_path, capfd):
    lost, untrained = cell("true-mpc", 700, dataset=NO_DATA), cell("bcq-p", 0, dataset="nonsense")
    with pytest.raises(JobsFailed, match="agent=700") as failed:
        run_cells([lost, GRID[0], untrained, GRID[2]], SMALL, tmp_path, progress=False, workers=2)
    assert len(failed.value.failures) == 2 and "dataset=nonsense" in str(failed.value)
    assert missing_cells([lost, GRID[0], untrained, GRID[2]], SMALL, open_results(tmp_path)) == [lost, untrained]
    assert "agent 700 is not in the cartpole population" in capfd.readouterr().err
