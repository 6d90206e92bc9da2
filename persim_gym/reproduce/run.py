"""Runs cells: first the trainings that they share, then the cells, both on all cores or a cluster, and resumable."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from persim_gym.jobs import JobPlace, JobsFailed, RowLog, run_jobs, run_unlogged
from persim_gym.reproduce.cells import result_keys, run_cell
from persim_gym.reproduce.models import ModelKey, model_key, models_of, trained_model
from persim_gym.reproduce.protocol import Cell, Scale
from persim_gym.reproduce.results import COLUMNS, KEY_COLUMNS
from persim_gym.storage import CARD

RESULTS_FILE, MODELS = "results.csv", "models"


def open_results(out: Path) -> RowLog:
    """The rows of a folder; begun where there are none.

    Raises:
        ValueError: If the file there is another table.
    """
    return RowLog(out / RESULTS_FILE, KEY_COLUMNS, [column for column in COLUMNS if column not in KEY_COLUMNS])


def missing_cells(cells: Sequence[Cell], scale: Scale, log: RowLog) -> list[Cell]:
    """The cells that have not run yet, at this scale."""
    return [cell for cell in cells if any(log.get(key) is None for key in result_keys(cell, scale))]


def run_cells(
    cells: Sequence[Cell],
    scale: Scale,
    out: Path,
    *,
    more_models: Iterable[ModelKey] = (),
    progress: bool = True,
    **place: Unpack[JobPlace],
) -> None:
    """Runs the cells whose results are not in `out` yet; trains the models that they need and that are not there.

    A cell that fails is reported and tried once more; the others go on.

    Args:
        cells: What is measured.
        scale: How much is run.
        out: Folder of `results.csv` and of the trained models.
        more_models: Models to train that figures need, whether cells do or not.
        progress: Whether to show progress bars.
        **place: Where they run.

    Raises:
        JobsFailed: If trainings or cells failed twice; what the others did is kept.
    """
    log = open_results(out)
    models = (out / MODELS).resolve()
    models.mkdir(parents=True, exist_ok=True)
    missing, failed = missing_cells(cells, scale, log), list[tuple[Mapping[str, Any], str]]()
    keys = list(dict.fromkeys([*models_of(missing, scale), *more_models]))
    untrained = [asdict(key) for key in keys if not (models / key.folder / CARD).is_file()]
    shared: dict[str, Any] = {"folder": models, "progress": progress, **place}
    try:
        run_unlogged(
            train_job, untrained, lambda job, result: None, description="models", done=len(keys) - len(untrained),
            **shared,
        )  # fmt: skip
    except JobsFailed as error:
        failed = error.failures
    unready = {ModelKey(**job) for job, _ in failed}
    ready = [cell for cell in missing if model_key(cell, scale) not in unready]
    try:
        run_jobs(
            cell_job,
            [asdict(cell) for cell in ready],
            log,
            description="cells",
            constants={"scale": scale},
            rows=lambda job: result_keys(Cell(**job), scale),
            reads=lambda job: _reads(job, scale),
            **shared,
        )
    except JobsFailed as error:
        failed = [*failed, *error.failures]
    if failed:
        raise JobsFailed(failed, len(untrained) + len(missing))


def train_job(folder: Path, **key: Any) -> str:
    """Trains the model of a key; runs in a worker process."""
    trained_model(ModelKey(**key), folder)
    return ""


def cell_job(folder: Path, scale: Scale, **cell: Any) -> list[dict[str, Any]]:
    """Runs a cell; in a worker process."""
    return [asdict(result) for result in run_cell(Cell(**cell), scale, folder)]


def _reads(job: Mapping[str, Any], scale: Scale) -> Collection[str]:
    """The trained model that a cell measures, as a name in the folder of models."""
    key = model_key(Cell(**job), scale)
    return [key.folder] if key else []
