"""The layout in CONTRIBUTING.md is true: a file imports only from lower floors."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "persim_gym"
FLOORS = {
    "task": 0,
    "transitions": 0,
    "files": 0,
    "home": 0,
    "version": 0,
    "envs": 1,
    "simulator": 1,
    "planning": 2,
    "evaluate": 2,
    "datasets": 3,
    "persim_env": 3,
    "sb3": 3,
    "conditional": 3,
    "train": 4,
    "policies": 4,
    "experiments": 5,
    "cli": 6,
}
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, dotted, without the package's name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "persim_gym":
            module = node.module.partition(".")[2] or "envs"  # `from persim_gym import DOMAINS`
            folder = ROOT / module.replace(".", "/")
            names |= {
                f"{module}.{alias.name}" if (folder / f"{alias.name}.py").exists() else module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("persim_gym.")}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_come_from_lower_floors(path):
    home = path.relative_to(ROOT).with_suffix("").parts[0]
    above = {
        name for name in imported(path) if name.split(".")[0] != home and FLOORS[name.split(".")[0]] >= FLOORS[home]
    }
    assert not above, f"{path.name} on floor {FLOORS[home]} imports {above}"


@pytest.mark.parametrize("package", PACKAGES)
def test_siblings_do_not_import_in_a_circle(package):
    edges = {}
    for path in (ROOT / package).glob("*.py"):
        name = f"{package}.{path.stem}" if path.stem != "__init__" else package
        edges[name] = {other for other in imported(path) if other.split(".")[0] == package}

    def visit(name, trail):
        assert name not in trail, f"circle: {' -> '.join([*trail, name])}"
        for other in edges.get(name, ()):
            visit(other, [*trail, name])

    for name in edges:
        visit(name, [])


def test_the_files_of_the_simulator_are_listed():
    page = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "simulator").glob("*.py")} - {"__init__.py"}
    assert sorted(name for name in files if f"`{name}`" not in page) == [], "add them to the table in CONTRIBUTING.md"
