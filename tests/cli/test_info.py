"""`persim envs`: the list of domains and the page about them."""

from pathlib import Path

from typer.testing import CliRunner

from persim_gym.baselines.methods import METHODS
from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.extras import EXTRAS

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


def test_what_is_installed_names_every_extra(monkeypatch):
    monkeypatch.setattr("persim_gym.extras.version_of", lambda package: None if package == "ray" else "1.2.3")
    shown = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "200"}).output
    assert "none: pip install 'persim-gym[ray]'" in shown
    for extra in EXTRAS:
        assert f"extra {extra} " in shown
