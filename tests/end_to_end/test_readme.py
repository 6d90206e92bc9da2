"""What the README shows runs and is what the repository holds."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def block(word: str) -> str:
    (only,) = (text for text in BLOCKS if word in text)
    return only


def test_training_example_is_the_committed_one():
    example = (ROOT / "examples" / "train_in_simulator.py").read_text(encoding="utf-8")
    code = example.split('"""', 2)[2].strip()
    assert block("model.learn").strip() == code


@pytest.mark.slow
def test_planning_example_runs():
    exec(compile(block("MPC("), "README.md", "exec"), {})


def test_pictures_and_links_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)
