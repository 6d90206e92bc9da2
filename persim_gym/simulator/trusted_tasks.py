"""Which tasks a simulator may import. A card can name any module, so that only names that this user gave are imported.

A trusted name is found as Python finds modules, in the current folder too where that is on Python's path.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from persim_gym.paths import persim_home
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, task_at
from persim_gym.storage import reading, write_text
from persim_gym.task import Task

TRUSTED_TASKS_FILE = "trusted-tasks.txt"
"""File under $PERSIM_HOME: tasks that this user trusts, a line each, as `module:name`."""
TRUSTED_TASKS_VARIABLE = "PERSIM_TRUSTED_TASKS"
"""Environment variable: further ones, separated by commas, for a process and those that it starts."""


def is_imported(task: str) -> bool:
    """Whether a task is imported, being neither a domain's nor learned."""
    return task not in (DOMAIN_TASK, LEARNED_TASK)


def trusted_task(task: str, simulator: str) -> Task:
    """The task of a card, imported; arguments and errors as `check_trusted` and `persim_gym.spec.task_at`."""
    check_trusted(task, simulator)
    return task_at(task)


def check_trusted(task: str, simulator: str) -> None:
    """Refuses to import what this user has not named.

    Args:
        task: The task of a card.
        simulator: Name of the simulator, for the message.

    Raises:
        ValueError: If it is imported and not trusted; says what would be imported, and from where.
    """
    if is_imported(task) and task not in _listed() | _in_this_process():
        module = task.partition(":")[0]
        raise ValueError(
            f"simulator {simulator} would import module {module!r}{_origin(module)} for its task {task!r}, which is "
            "none of yours; if you trust it, load the simulator with trust=True (--trust-task), or add the task "
            f"as a line to {_file()}"
        )


def trust_in_this_process(task: str) -> None:
    """Trusts a task in this process and in those that it starts."""
    if is_imported(task):
        os.environ[TRUSTED_TASKS_VARIABLE] = ",".join(sorted(_in_this_process() | {task}))


def trust_from_now_on(task: str) -> None:
    """Trusts a task of this user's own in every process, and says so on standard error where that is new."""
    trust_in_this_process(task)
    if not is_imported(task) or task in _listed():
        return
    try:
        write_text(_file(), "".join(f"{line}\n" for line in sorted(_listed() | {task})))
        until = f"from now on ({_file()})"
    except (ValueError, OSError):  # A folder that cannot be written to is no reason not to train.
        until = f"until this process ends ({_file()} cannot be written)"
    print(f"persim_gym: simulators whose card names the task {task} import it {until}", file=sys.stderr)


def _file() -> Path:
    return persim_home() / TRUSTED_TASKS_FILE


def _listed() -> set[str]:
    """Tasks in the user's file."""
    if not _file().exists():
        return set()
    with reading(_file(), "remove it, or write one task a line"):
        return set(map(str.strip, _file().read_text(encoding="utf-8").splitlines()))


def _in_this_process() -> set[str]:
    return set(filter(None, os.environ.get(TRUSTED_TASKS_VARIABLE, "").split(",")))


def _origin(module: str) -> str:
    """The file where a module's package begins, for a message; nothing is imported to find it."""
    try:
        found = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    places = [*(found.submodule_search_locations or []), found.origin] if found is not None else []
    return f" of {places[0]}" if places and places[0] else ""
