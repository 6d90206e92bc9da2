"""Pages of the reference that are made of the package itself: names, verbs, datasets and simulators.

`docs/hooks.py` puts them into the site whenever it is built, so that none can be out of date.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from types import ModuleType
from typing import Any, NamedTuple

import typer

import persim_gym
from persim_gym.cli import app
from persim_gym.datasets import DATASETS
from persim_gym.datasets.card import POLICY_DESCRIPTIONS
from persim_gym.envs import DOMAINS
from persim_gym.envs.markdown import actions_of, range_of
from persim_gym.paths import ASSETS
from persim_gym.simulator import load_simulator
from persim_gym.storage import CARD


class PythonPage(NamedTuple):
    """One page of the Python reference.

    Attributes:
        title: Its heading.
        about: What the names on it are for.
        modules: Modules whose public names it has.
    """

    title: str
    about: str
    modules: tuple[str, ...]


PYTHON_PAGES = {
    "persim_gym": PythonPage(
        "persim_gym",
        "The front door. These names are loaded when they are first used, so that `import persim_gym` stays quick.",
        ("persim_gym",),
    ),
    "envs": PythonPage(
        "Environments",
        "The true environments, and what describes one. `gym.make` makes them; [Environments](../../environments.md) "
        "lists them.",
        (
            "persim_gym.envs",
            "persim_gym.envs.hetero:HeteroEnv,HeteroVectorEnv",
            "persim_gym.envs.behavior:BehaviorConfig,Rule",
        ),
    ),
    "datasets": PythonPage(
        "Datasets",
        "Logged episodes of many agents, as Minari datasets and as plain arrays.",
        (
            "persim_gym.datasets",
            "persim_gym.transitions",
            "persim_gym.transition_store:TransitionStore,write_transitions",
        ),
    ),
    "simulator": PythonPage(
        "Simulators",
        "What training gives: the model of all agents, with its card, on disk. `TrainOptions` are the further keywords "
        "of `persim_gym.train`.",
        (
            "persim_gym.simulator",
            "persim_gym.simulator.dynamics.online",
            "persim_gym.simulator.diagnostics.trust:Trust,agent_horizons",
            "persim_gym.workflows.training_setup:TrainOptions",
            "persim_gym.sharing:push,pull",
        ),
    ),
    "persim_env": PythonPage(
        "PersimEnv",
        "A simulator as a Gymnasium environment: single, as a vector environment, and as a `VecEnv` of "
        "Stable-Baselines3.",
        (
            "persim_gym.persim_env.env",
            "persim_gym.persim_env.vector",
            "persim_gym.sb3",
            "persim_gym.wrappers",
        ),
    ),
    "planning": PythonPage(
        "Planning",
        "Planners search for actions in any dynamics, learned or true. `MPC` makes a policy of a planner.",
        ("persim_gym.planning", "persim_gym.planning.online_mpc"),
    ),
    "policies": PythonPage(
        "Policies",
        "Policies that Stable-Baselines3 trains inside a simulator.",
        ("persim_gym.policies",),
    ),
    "evaluation": PythonPage(
        "Evaluation",
        "How wrong predictions are, and what policies earn in the true environment.",
        (
            "persim_gym.evaluation.prediction:PredictionError,prediction_error",
            "persim_gym.evaluation.returns",
            "persim_gym.evaluation.intervals",
        ),
    ),
    "task": PythonPage(
        "Tasks and spaces",
        "Reward and end of an episode as functions, what planners ask of dynamics, and the spaces of data.",
        ("persim_gym.task", "persim_gym.spec:EnvironmentSpec"),
    ),
}
"""Pages of the Python reference, by file name."""


def public_names(place: str) -> list[str]:
    """Dotted public names of a module, or those of its names that `module:name,name` gives.

    Those of its `__all__`; without one, the classes and functions that it defines itself. What the front door names
    too is on the front door's page alone.
    """
    module_name, _, some = place.partition(":")
    module = import_module(module_name)
    names = some.split(",") if some else getattr(module, "__all__", None)
    names = names or [name for name in vars(module) if _is_own(module, name)]
    elsewhere = {"__version__", *(() if module is persim_gym else persim_gym.__all__)}
    return [f"{module_name}.{name}" for name in names if name not in elsewhere]


def _is_own(module: ModuleType, name: str) -> bool:
    value = getattr(module, name)
    return not name.startswith("_") and callable(value) and getattr(value, "__module__", "") == module.__name__


def python_page(page: PythonPage) -> str:
    """One page of the Python reference: a heading for each module and a block of mkdocstrings for each name."""
    lines = [f"# {page.title}", "", page.about, ""]
    for place in page.modules:
        names = public_names(place)
        if len(page.modules) > 1:
            lines += [f"## {place.partition(':')[0]}", ""]
        for name in names:
            lines += [f"::: {name}", ""]
    return "\n".join(lines)


def python_index() -> str:
    """The list of all public names, with links."""
    lines = ["# Python", "", "Every public name, by the module that you import it from.", ""]
    for file, page in PYTHON_PAGES.items():
        lines += [f"## [{page.title}]({file}.md)", "", page.about, ""]
        for place in page.modules:
            module = place.partition(":")[0]
            names = ", ".join(f"[`{name.rpartition('.')[2]}`][{name}]" for name in public_names(place))
            lines += [f"- `{module}`: {names}"]
        lines += [""]
    return "\n".join(lines)


def verbs() -> Iterator[tuple[str, Any]]:
    """Every verb of the command line that does something, such as ("datasets build", its command)."""

    def under(prefix: str, command: Any) -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            words = f"{prefix}{name}"
            if getattr(inner, "commands", None):
                yield from under(f"{words} ", inner)
            else:
                yield words, inner

    yield from under("", typer.main.get_command(app))


def command_line_page() -> str:
    """Every verb with its arguments and options."""
    lines = [
        "# Command line",
        "",
        "Every verb of `persim`, as `persim VERB --help` tells it. `persim --version` says which version this is.",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(f"| [`{words}`](#{_anchor(words)}) | {_cell(_first_line(command))} |" for words, command in verbs()),
        "",
    ]
    for words, command in verbs():
        lines += [*_verb(words, command), ""]
    return "\n".join(lines)


def _verb(words: str, command: Any) -> list[str]:
    given = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
    usage = " ".join(f"[{p.name.upper()}]" if not p.required else p.name.upper() for p in given)
    needed = " ".join(f"{p.opts[0]} ..." for p in options if p.required)
    # The text before a form feed is what Typer shows.
    lines = [f"## persim {words} {{ #{_anchor(words)} }}", "", cleandoc(command.help or "").partition("\f")[0], ""]
    lines += ["```text", " ".join(f"persim {words} {usage} {needed}".split()), "```", ""]
    rows = [(p.name.upper(), p) for p in given] + [(_option(p), p) for p in options]
    if rows:
        lines += ["| | | default |", "|---|---|---|"]
        lines += [f"| {_code(name)} | {_cell(_described(p))} | {_cell(_default(p))} |" for name, p in rows]
    return lines


def _first_line(command: Any) -> str:
    return cleandoc(command.help or "").partition("\n")[0]


def _option(parameter: Any) -> str:
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


DEFAULT_IN_WORDS = re.compile(r"\s*\(default: (.*)\)$")
"""How a help text tells a default that is no single value."""


def _described(parameter: Any) -> str:
    return DEFAULT_IN_WORDS.sub("", parameter.help or "")


def _default(parameter: Any) -> str:
    if match := DEFAULT_IN_WORDS.search(parameter.help or ""):
        return match[1]
    if parameter.required:
        return "required"
    value = parameter.default
    return "" if value is None or value is False or value == "" else _code(str(value))


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(words: str) -> str:
    return f"persim-{words.replace(' ', '-')}"


def datasets_page(cards: set[str]) -> str:
    """Every listed dataset, by domain.

    Args:
        cards: Names of datasets that have a card, such as `cartpole/random-v0`.
    """
    lines = [
        "# Datasets",
        "",
        "Logged episodes that the package builds itself, one episode an agent. `persim_gym.datasets.load(id)` and "
        "`persim train` build a missing one; plain `minari.load_dataset(id)` works after that. They go where Minari "
        "keeps its datasets (`$MINARI_DATASETS_PATH`).",
        "",
        "| policy | how it acts |",
        "|---|---|",
        *(f"| `{policy}` | {about} |" for policy, about in POLICY_DESCRIPTIONS.items()),
        "",
        "| dataset | environment | agents | actions | card |",
        "|---|---|---|---|---|",
    ]
    for dataset_id, spec in DATASETS.items():
        domain = spec.domain
        place = f"[`{domain.env_id}`](../environments.md#{domain.env_id.lower()})"
        card = f"[what it holds](../datasets/{spec.name}.md)" if spec.name in cards else "`persim datasets card`"
        lines += [f"| `{dataset_id}` | {place} | {len(domain.population)} | {actions_of(domain)} | {card} |"]
    lines += ["", "Agents of one domain differ in these covariates, which no dataset tells:", ""]
    lines += ["| domain | covariates |", "|---|---|"]
    for domain in DOMAINS.values():
        lines += [f"| {domain.title} | {', '.join(f'{c.name} {range_of(c)}' for c in domain.covariates)} |"]
    lines += [
        "",
        "`persim datasets list` says which of them are on this machine. [Your own data](../your-data.md) become a",
    ]
    return "\n".join([*lines, "dataset by `persim import`.", ""])


def simulators_page() -> str:
    """Every simulator that comes with the package, from its card."""
    lines = [
        "# Simulators",
        "",
        "These come with the package. `load_simulator(name)` and `gym.make(..., simulator=name)` take a name or a "
        "path. What you train goes under `$PERSIM_HOME` and comes first; `persim simulators list` shows all.",
        "",
        "| name | agents | rank | members | trained on | seconds |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for path in sorted((ASSETS / "simulators").rglob(CARD)):
        name = path.parent.relative_to(ASSETS / "simulators").as_posix()
        card = load_simulator(path.parent).card
        shape = card.shape
        lines += [
            f"| `{name}` | {shape['n_agents']} | {shape['rank']} | {shape['members']} | "
            f"{card.transitions:,} transitions of `{card.dataset}` | {card.training_seconds:.0f} |"
        ]
    return "\n".join([*lines, ""])


def pages(cards: set[str]) -> dict[str, str]:
    """Every generated page, Markdown by its path in the site.

    Args:
        cards: As `datasets_page`.
    """
    return {
        "reference/command-line.md": command_line_page(),
        "reference/datasets.md": datasets_page(cards),
        "reference/simulators.md": simulators_page(),
        "reference/python/index.md": python_index(),
        **{f"reference/python/{file}.md": python_page(page) for file, page in PYTHON_PAGES.items()},
    }
