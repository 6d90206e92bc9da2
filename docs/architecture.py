"""Reads the package's imports, and draws them: `python docs/architecture.py` writes docs/architecture.png.

A *room* is a module or package that does one thing; it stands on a *floor* and imports from floors below it alone.
`tests/test_layout.py` holds the package to `ROOMS`.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).parent.parent / "persim_gym"
ROOMS = {  # Each room, and the floor that it stands on.
    "actions": 0,
    "extras": -1,
    "front_matter": -1,
    "history": 0,
    "logged_arrays": -1,
    "running_moments": 0,
    "task": 1,
    "version": 0,
    "suggest": 0,
    "labels": 1,
    "observation_layout": 1,
    "paths": 0,
    "parallel": 0,
    "transitions": 0,
    "spec": 2,
    "storage": 1,
    "transition_store": 2,
    "onnx_files": 2,
    "jobs": 2,
    "envs": 2,
    "simulator.kernels": 3,
    "planning": 3,
    "simulator.model": 4,
    "simulator.inference": 5,
    "simulator.dynamics": 6,
    "simulator.training": 6,
    "simulator.noise": 6,
    "simulator.diagnostics": 7,
    "simulator": 8,
    "evaluation": 9,
    "wrappers": 10,
    "baselines.cadm": 9,
    "models": 10,
    "sharing": 10,
    "datasets": 10,
    "persim_env": 11,
    "sb3": 11,
    "policies": 12,
    "baselines": 12,
    "workflows": 13,
    "reports": 14,
    "comparison": 14,
    "studies": 15,
    "reproduce": 15,
    "cli": 16,
}
ALLOWED = {  # Narrower than the floors: all that these rooms may import.
    "simulator.kernels": {"task", "parallel", "paths"},
    "simulator.model": {"simulator.kernels"},
    "planning": {"actions", "history", "task", "parallel", "spec"},
}
FOUNDATIONS = {
    "actions", "extras", "front_matter", "history", "task", "version", "suggest", "labels", "observation_layout",
    "paths", "parallel", "logged_arrays", "running_moments", "transitions", "spec", "storage",
    "transition_store", "jobs"
}  # fmt: skip
COLUMN = {  # Where a room stands in the picture, from left (-1) to right (1).
    "envs": 1,
    "planning": -1,
    "simulator.kernels": 0,
    "simulator.model": 0,
    "simulator.inference": 0,
    "simulator.dynamics": -1,
    "simulator.training": 0,
    "simulator.noise": 1,
    "simulator.diagnostics": 0,
    "simulator": 0,
    "evaluation": 1,
    "wrappers": -1,
    "onnx_files": -1,
    "datasets": 1,
    "persim_env": 0,
    "sb3": -1,
    "policies": 0,
    "baselines.cadm": 0,
    "models": 0,
    "sharing": -1,
    "baselines": 1,
    "workflows": 0,
    "reports": -0.5,
    "comparison": 0.5,
    "studies": -0.5,
    "reproduce": 0.5,
    "cli": 0,
}
WHAT = {  # What a room is for, in the picture.
    "envs": "true environments: one file a domain",
    "planning": "planners and MPC",
    "simulator.kernels": "compiled code on plain arrays",
    "simulator.model": "the factored ensemble",
    "simulator.inference": "factors in closed form",
    "simulator.dynamics": "the model bound to agents",
    "simulator.training": "recipes, engines, trainer",
    "simulator.noise": "outcomes instead of expectations",
    "simulator.diagnostics": "error, trust, calibration",
    "simulator": "simulator, card, registry",
    "evaluation": "errors, returns, figures",
    "wrappers": "one policy for all agents, a guard",
    "onnx_files": "policies and dynamics as ONNX",
    "datasets": "Minari datasets, behavior policies",
    "persim_env": "PersimEnv-v0",
    "sb3": "batched VecEnv",
    "policies": "SB3 training in simulators",
    "baselines.cadm": "models that know agents by history",
    "models": "every model by name or path",
    "sharing": "simulators on a model hub",
    "baselines": "the systems compared with",
    "workflows": "what a verb does",
    "reports": "all about a simulator on a page",
    "comparison": "which policy is best for an agent",
    "studies": "measurements behind the documents",
    "reproduce": "the thesis's tables and figures",
    "cli": "one file a verb",
}
MODULE = re.compile(r"persim_gym\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)")


def source_files() -> list[Path]:
    """Every module of the package but its two doors, `__init__` (lazy names from anywhere) and `__main__`."""
    return sorted(path for path in ROOT.rglob("*.py") if path not in (ROOT / "__init__.py", ROOT / "__main__.py"))


def module_of(path: Path) -> str:
    """Dotted name of a file's module, without the package's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


def room_imports() -> dict[str, set[str]]:
    """Rooms that each room imports from."""
    edges: dict[str, set[str]] = defaultdict(set)
    for path in source_files():
        home = room_of(module_of(path))
        edges[home] |= {room_of(name) for name in imported(path)} - {home}
    return edges


def essential(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports that do not follow from others: who imports a room that imports another reaches that one anyway."""

    def reached(room: str) -> set[str]:
        found = set()
        for other in edges.get(room, ()):
            found |= {other} | reached(other)
        return found

    return [
        (room, other)
        for room, others in edges.items()
        for other in others
        if not any(other in reached(between) for between in others - {other})
    ]


def draw(path: Path) -> None:
    """Draws rooms on their floors, and the imports that do not follow from others."""
    edges = {room: others - FOUNDATIONS for room, others in room_imports().items() if room not in FOUNDATIONS}
    height = {floor: i + 1 for i, floor in enumerate(sorted({ROOMS[room] for room in COLUMN}))}
    place = {room: (2.7 * x, 1.05 * height[ROOMS[room]]) for room, x in COLUMN.items()}
    figure = Figure(figsize=(10, 11.5), layout="constrained")
    ax = figure.subplots()
    for room, other in essential(edges):
        (x0, y0), (x1, y1) = place[room], place[other]
        bend = 0.25 * (1 if x0 >= 0 else -1) if abs(y0 - y1) > 1.2 and abs(x0 - x1) < 0.1 else 0.0
        arrow = FancyArrowPatch(
            (x0, y0 - 0.3), (x1, y1 + 0.3), arrowstyle="-|>", mutation_scale=12, color="0.55", linewidth=1.0,
            connectionstyle=f"arc3,rad={-bend}", zorder=1,
        )  # fmt: skip
        ax.add_patch(arrow)
    for room, (x, y) in place.items():
        _box(ax, x, y, 2.2, room, WHAT[room], "#e8590c" if room.startswith("simulator") else "#1971c2")
    width = max(x for x, _ in place.values()) - min(x for x, _ in place.values()) + 2.2
    names = " · ".join(sorted(FOUNDATIONS))
    _box(ax, 0.0, 0.0, width, names, "foundations, which every room above may import (floors -1 to 2)", "0.4")
    ax.set_xlim(-width / 2 - 0.2, width / 2 + 0.2)
    ax.set_ylim(-0.5, max(y for _, y in place.values()) + 0.5)
    ax.axis("off")
    ax.set_title(
        "persim_gym: rooms import from rooms below (imports that follow from others are left out)", fontsize=11
    )
    figure.savefig(path, dpi=110)


def _box(ax: Axes, x: float, y: float, width: float, title: str, text: str, color: str) -> None:
    corner = (x - width / 2 + 0.02, y - 0.27)
    style = "round,pad=0.02,rounding_size=0.08"
    ax.add_patch(
        FancyBboxPatch(corner, width - 0.04, 0.54, boxstyle=style, facecolor="white", edgecolor=color, zorder=2)
    )
    ax.text(x, y + 0.09, title, ha="center", va="center", fontsize=10, weight="bold", zorder=3)
    ax.text(x, y - 0.12, text, ha="center", va="center", fontsize=7.4, color="0.25", zorder=3)


if __name__ == "__main__":
    draw(Path(__file__).with_suffix(".png"))
