"""`persim report` on the command line."""

from typer.testing import CliRunner

from persim_gym.cli import app


def test_a_page_of_one_agent_is_written(save_car, home, tmp_path):
    page = tmp_path / "page.html"
    words = ["report", str(save_car()), "--agent", "4", "--episodes", "1", "--out", str(page)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.exception
    assert "open it in a browser" in shown.stdout
    said = page.read_text(encoding="utf-8")
    assert "<h2>Agent 4</h2>" in said and "<h2>Agent 0</h2>" not in said


def test_what_is_wrong_is_said_before_anything_is_written(save_car, home, tmp_path):
    shown = CliRunner().invoke(
        app, ["report", str(save_car()), "--compare", "none.csv", "--out", str(tmp_path / "page.html")]
    )
    assert isinstance(shown.exception, ValueError) and "there is no file none.csv" in str(shown.exception)
    assert not (tmp_path / "page.html").exists()
