"""Code on README and on pages of the documentation runs, and prints what the page shows."""

import importlib.util
import re
import sys
from pathlib import Path

import gymnasium
import pytest

from persim_gym.envs import DOMAINS

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("run_pages", ROOT / "docs" / "run_pages.py")
assert _SPEC is not None and _SPEC.loader is not None
run_pages = sys.modules["run_pages"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(run_pages)
from run_pages import RUN, WIDTH, blocks_of, check_page, differs, run  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SLOW = {
    "docs/baselines.md",
    "docs/datasets/cartpole/random-v0.md",
    "docs/tutorials/add-planner.md",
    "docs/tutorials/plan.md",
    "docs/tutorials/trust.md",
}
"""Pages that take more than a few seconds."""
PYTHON = re.compile(r"^(?:from \w[\w.]* import |import \w|\w+ = \w+[.(])", re.M)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


CARDS = [path for path in PAGES if (ROOT / "docs" / "datasets") in path.parents]
SHOWN_CARD = ROOT / "docs" / "datasets" / "cartpole" / "random-v0.md"
"""All cards have the same code; one is run."""
RUNNING = [
    path
    for path in PAGES
    if any(block.runs for block in blocks_of(text_of(path))) and (path not in CARDS or path == SHOWN_CARD)
]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder; what a page registers is gone afterwards."""
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    domains, registry = dict(DOMAINS), dict(gymnasium.registry)
    yield folder
    for known, before in ((DOMAINS, domains), (gymnasium.registry, registry)):
        known.clear()
        known.update(before)


@pytest.mark.filterwarnings("ignore:.*None:UserWarning:minari")
@pytest.mark.parametrize(
    "path",
    [pytest.param(p, id=name_of(p), marks=pytest.mark.slow if name_of(p) in SLOW else ()) for p in RUNNING],
)
def test_code_on_a_page_prints_what_the_page_shows(path, elsewhere):
    check_page(path)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_block_says_what_it_is_and_code_is_run_or_says_why_not(path):
    for block in blocks_of(text_of(path)):
        where = f"{name_of(path)}, line {block.line}"
        assert block.language, f"{where}: name the language; what is printed is text"
        if block.language in RUN and not block.runs:
            assert len(block.note) > len("not run: ") + 5, f"{where}: say why it is not run"
        if block.language not in RUN:
            assert not PYTHON.search(block.code), f"{where}: this is Python"


def test_every_tutorial_is_listed_and_shows_what_it_prints():
    tutorials = [path for path in PAGES if path.parent.name == "tutorials" and path.stem != "index"]
    listed = re.findall(r"\]\((\S+\.md)\)", text_of(ROOT / "docs" / "tutorials" / "index.md"))
    assert len(tutorials) == 8
    for path in tutorials:
        assert path.name in listed and name_of(path).removeprefix("docs/") in text_of(ROOT / "mkdocs.yml")
        shown = [block for block in blocks_of(text_of(path)) if block.language == "text"]
        assert path in RUNNING and shown and all(block.code.strip() for block in shown)


PAGE = """# A page

```python
x = 1
print("one", x)
```

```text
one 1
```

<!-- not run: it is about nothing -->
```python
raise ValueError
```

```python
print(f"{x + 0.3:.1f} metres")
```

<!-- numbers within 10 %: a ruler is inexact -->
```text
1.2 metres
```
"""


def test_blocks_run_in_order_and_keep_their_names(elsewhere):
    said = []
    run(PAGE, "page", lambda block, shown, printed: said.append((printed, shown.code, shown.tolerance)))
    assert said == [("one 1\n", "one 1\n", 0.0), ("1.3 metres\n", "1.2 metres\n", 0.1)]
    assert [block.line for block in blocks_of(PAGE)] == [4, 9, 14, 18, 23]


@pytest.mark.parametrize(
    ("printed", "shown", "tolerance", "wrong"),
    [
        ("a  1\n", "a 1", 0.0, False),
        ("a 1.0", "a 1", 0.0, True),
        ("a 1.05", "a 1.00", 0.1, False),
        ("a 1.5", "a 1.0", 0.1, True),
        ("a 0.02", "a 0.01", 0.1, False),
        ("a 1e-05", "a 2e-05", 0.1, False),
        ("a 4e-05", "a 2e-05", 0.1, True),
        ("b 1", "a 1", 0.5, True),
        ("a 1 2", "a 1", 0.5, True),
        ("┏━━━┓ 1,000", "┏━━━━━┓ 1,001", 0.5, False),
    ],
)
def test_what_is_printed_may_differ_in_numbers_alone_and_only_where_a_page_says_so(printed, shown, tolerance, wrong):
    assert differs(printed, shown, tolerance) == wrong


def test_a_page_that_shows_something_else_is_refused_with_the_remedy(elsewhere):
    path = elsewhere / "page.md"
    path.write_text(PAGE.replace("one 1\n```", "one 2\n```"), encoding="utf-8")
    with pytest.raises(
        AssertionError, match="line 9: the code above prints\none 1\n\nwrite it: python docs/run_pages.py"
    ):
        check_page(path)


def test_commands_other_than_our_own_are_not_run(elsewhere):
    with pytest.raises(ValueError, match="only persim is run here, not 'rm'"):
        run("```bash\nrm nothing\n```\n", "page", lambda *_: None)
