"""What the README and other pages name is what the repository holds; `tests/docs` runs their code."""

import ast
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import typer
from support.populations import stranger_of

from persim_gym.cli import app
from persim_gym.simulator.registry import load_simulator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = [path for folder in ("examples", "benchmarks", "docs") for path in sorted((ROOT / folder).glob("*.py"))]


def test_training_example_is_the_committed_one():
    example = (ROOT / "examples" / "train_in_simulator.py").read_text(encoding="utf-8")
    code = example.split('"""', 2)[2].strip()
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert f"```python\n{code}\n```" in page


@pytest.mark.parametrize("path", [*PAGES, *PROGRAMS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_pages_and_programs_import_from_the_package_is_there(path):
    text = path.read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.S) if path.suffix == ".md" else [text]:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "persim_gym":
                module = import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or import_module(f"{node.module}.{alias.name}")


def test_example_of_new_agents_runs(cars, tmp_path):
    page = (ROOT / "docs" / "personalize.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.S)[0]  # The next one is of data with covariates.
    data = stranger_of(cars)
    given = {"obs": data.obs[:3], "action": data.action[:3], "next_obs": data.next_obs[:3], "actions": data.action[:3]}
    names = {**given, "transitions": data, "folder": tmp_path / "bigger", "rng": np.random.default_rng(0)}
    exec(compile(code.replace("cartpole/random-v0", "mountaincar/random-v0"), "personalize.md", "exec"), names)
    assert names["bigger"].new_agents == range(500, 501)
    assert load_simulator(str(tmp_path / "bigger")).model.config.n_agents == 501
    assert names["next_obs"].shape == names["draw"](data.obs[:3], data.action[:3]).shape == (5, 3, 2)


def test_pictures_and_links_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)


def commands():
    """Every command of `persim` that a page names, with the page."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for line in re.findall(r"(?:`|^\s*)persim ([a-z][^`\n#|]*)", page.read_text(encoding="utf-8"), re.M):
            yield pytest.param(line.split(), id=f"{page.name}: {' '.join(line.split())}")


@pytest.mark.parametrize("words", [*commands()])
def test_commands_in_documents_are_verbs_with_these_options(words):
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    assert not hasattr(command, "commands") or words == [], "no such verb"
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}
