"""`persim methods` shows the whole table."""

from typer.testing import CliRunner

from persim_gym.baselines.methods import METHODS
from persim_gym.cli import app


def test_every_method_is_listed_whole():
    shown = CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for method in METHODS:
        assert method.name in shown.output and method.command in shown.output and method.source in shown.output
