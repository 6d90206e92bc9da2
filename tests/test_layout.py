"""The layout in docs/architecture.md is true: a room imports only from rooms below it, by statement or by name."""

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
_SPEC = importlib.util.spec_from_file_location("architecture", DOCS / "architecture.py")
assert _SPEC is not None and _SPEC.loader is not None
architecture = sys.modules["architecture"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(architecture)
from architecture import ALLOWED, ROOMS, ROOT, imported, module_of, room_of, source_files  # noqa: E402

TESTS = Path(__file__).parent
TEST_FILES = sorted(TESTS.rglob("*.py"))
APART = {"docs", "end_to_end", "support", "test_layout.py"}  # These mirror no part of the package.
MAX_MODULES = 16
FILES = source_files()
PACKAGES = sorted({path.parent for path in FILES if path.parent != ROOT})


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_come_from_rooms_below(path):
    home = room_of(module_of(path))
    others = {room_of(name) for name in imported(path)} - {home}
    above = {room for room in others if ROOMS[room] >= ROOMS[home]}
    assert not above, f"{home} on floor {ROOMS[home]} imports {above}"
    assert others <= ALLOWED.get(home, others), f"{home} may import {ALLOWED[home]} only"


def test_training_and_dynamics_do_not_know_each_other():
    assert ROOMS["simulator.dynamics"] == ROOMS["simulator.training"]  # the same floor: neither may import the other


def test_no_module_imports_itself_over_others():
    edges = {module_of(path): imported(path) for path in FILES}

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        for other in sorted(edges.get(name, ())):
            if other != name and other not in done:
                visit(other, [*trail, name])
        done.add(name)

    done = set()
    for name in edges:
        visit(name, [])


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_no_folder_holds_more_modules_than_one_can_overlook(folder):
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES, f"split {folder.relative_to(ROOT)}: {', '.join(sorted(modules))}"


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.relative_to(ROOT).as_posix())
def test_every_package_says_what_it_is_for(folder):
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


def name_of(path: Path) -> str:
    """A test file's place under tests/."""
    return path.relative_to(TESTS).as_posix()


@pytest.mark.parametrize("path", TEST_FILES, ids=name_of)
def test_no_test_file_imports_another(path):
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            modules |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    others = {name for name in modules if name.startswith((".", "tests", "conftest", "test_"))}
    assert not others, f"move what {name_of(path)} takes from {', '.join(sorted(others))} into tests/support/"


@pytest.mark.parametrize("path", [p for p in TEST_FILES if p.relative_to(TESTS).parts[0] not in APART], ids=name_of)
def test_tests_lie_where_their_module_lies(path):
    package = ROOT / path.parent.relative_to(TESTS)
    assert package.is_dir(), f"there is no package {package.relative_to(ROOT.parent)}"
    if path.name != "conftest.py":
        module = path.stem.removeprefix("test_")  # or the package's own name: what all of its modules have in common
        assert (package / f"{module}.py").is_file() or module == package.name, f"there is no module {module} there"
