"""`persim study accuracy`: rows from workers, and the page that is made of them."""

from support.jobs import run_here

from persim_gym.cli import app
from persim_gym.studies import accuracy
from persim_gym.studies.accuracy import ACCURACY_JOB, read_rows


def test_the_command_writes_the_page_from_all_rows(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    def measure(domain, policy, variation, seed, folder):
        return {column: 0.001 for column in accuracy.ACCURACY_COLUMNS} | {"seconds": 1.0}

    monkeypatch.setattr(accuracy, "train_and_measure", measure)
    monkeypatch.setattr(accuracy, "run_jobs", run_here)
    page = tmp_path / "accuracy.md"
    words = ["study", "accuracy", "--domain", "cartpole", "--out", str(tmp_path), "--page", str(page)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and "Table B.2" in done.stdout
    assert [tuple(r[k] for k in ACCURACY_JOB) for r in read_rows(tmp_path / "accuracy.csv")] == [
        ("cartpole", policy, "default", "0") for policy in accuracy.LOGGING_POLICIES
    ]
    assert "0.0010 / 0.014" in page.read_text(encoding="utf-8")
