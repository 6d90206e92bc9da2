"""The layout in docs/architecture.md is true: a room imports only from rooms below it, by statement or by name.

Tests lie as the package does, and know nothing of each other.
"""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent / "persim_gym"
ROOMS = {  # room: the floor it stands on
    "task": 0,
    "version": 0,
    "paths": 0,
    "parallel": 0,
    "transitions": 0,
    "spec": 1,
    "storage": 1,
    "transition_store": 2,
    "jobs": 2,
    "envs": 2,
    "simulator.kernels": 3,
    "planning": 3,
    "simulator.model": 4,
    "simulator.inference": 5,
    "simulator.dynamics": 6,
    "simulator.training": 6,
    "simulator.diagnostics": 7,
    "simulator": 8,
    "evaluation": 9,
    "wrappers": 9,
    "datasets": 10,
    "persim_env": 10,
    "sb3": 10,
    "policies": 11,
    "workflows": 12,
    "studies": 13,
    "cli": 14,
}
ALLOWED = {  # narrower than the floors: all that these rooms may import
    "simulator.kernels": {"task", "parallel"},
    "simulator.model": {"simulator.kernels"},
    "planning": {"task", "parallel", "spec"},
}
MAX_MODULES = 16
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
TEST_FILES = sorted(TESTS.rglob("*.py"))
APART = {"end_to_end", "support", "test_layout.py"}  # These mirror no part of the package.
PACKAGES = sorted({path.parent for path in FILES if path.parent != ROOT})
MODULE = re.compile(r"persim_gym\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)")


def room_of(module: str) -> str:
    """The room of a dotted module: the longest name that `ROOMS` has."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next(name for name in names if name in ROOMS)


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, dotted, without the package's name; by `import_module` too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "persim_gym":
            module = node.module.partition(".")[2]
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                place = ROOT / inner.replace(".", "/")
                is_module = place.with_suffix(".py").exists() or place.is_dir()
                names.add(inner if is_module else module or "envs")  # `from persim_gym import DOMAINS`
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("persim_gym.")}
        elif isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if function in ("import_module", "__import__"):
                names |= {match[1] for text in texts if (match := MODULE.fullmatch(text))}
    return names


def module_of(path: Path) -> str:
    """Dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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
