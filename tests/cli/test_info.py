"""`persim envs`: the list of domains and the page about them."""

from pathlib import Path

from typer.testing import CliRunner

from persim_gym.baselines.methods import METHODS
from persim_gym.cli import app
from persim_gym.envs import DOMAINS

ROOT = Path(__file__).parents[2]


def test_environment_page_is_what_the_command_makes():
    made = CliRunner().invoke(app, ["envs", "--markdown"]).stdout
    assert made == (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")


def test_envs_lists_every_domain():
    listed = CliRunner().invoke(app, ["envs"]).stdout
    assert all(domain.env_id in listed for domain in DOMAINS.values())


def test_every_method_is_listed_whole():
    shown = CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for method in METHODS:
        assert method.name in shown.output and method.command in shown.output and method.source in shown.output
