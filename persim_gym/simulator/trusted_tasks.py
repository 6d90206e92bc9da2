"""Which tasks a simulator may import. A card can name any module, so that only names that this user gave are imported.

A trusted name is found as Python finds modules, in the current folder too where that is on Python's path.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from persim_gym.logged_arrays import complete
from persim_gym.paths import persim_home
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, task_at
from persim_gym.storage import reading, write_text
from persim_gym.task import Task
from persim_gym.transitions import LoggedData

TASK_COLUMNS = ("obs", "action", "next_obs")
TASK_ROWS = 1000
"""Logged transitions that a user's own task is tried on."""
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


def check_task(reference: str, data: LoggedData) -> None:
    """Calls the user's own task on logged transitions, before training rather than after it.

    Raises:
        ValueError: If it fails there, or gives anything but one finite reward and one end, a bool, a transition.
    """
    task, rows = task_at(reference), data.read([0])
    whole = np.flatnonzero(complete(rows))[:TASK_ROWS]
    obs, action, next_obs = (rows[name][whole] for name in TASK_COLUMNS)
    advice = "it takes arrays (obs [..., D], action, next_obs [..., D]) and (next_obs), and gives [...]"
    for some in ((len(obs),), (2, len(obs))):  # Planners have members in front: obs [M, B, D] with actions [B].
        now, following = (np.broadcast_to(x, (*some, x.shape[-1])) for x in (obs, next_obs))
        try:
            reward = np.asarray(task.reward(now, action, following), dtype=np.float64)
            ended = np.asarray(task.terminated(following))
        except (Exception, SystemExit) as error:  # The user's own code may raise anything.
            said = f"task {reference!r} fails on logged transitions ({error!r}), observations {now.shape}"
            raise ValueError(f"{said}; {advice}") from error
        if reward.shape not in (some, action.shape[:1]) or ended.shape != some:  # A reward may be of the action alone.
            raise ValueError(
                f"task {reference!r} gives rewards {reward.shape} and ends {ended.shape} of observations {now.shape}; "
                f"{advice}"
            )
        if not np.isfinite(reward).all():
            raise ValueError(f"task {reference!r} gives rewards that are not finite on logged transitions")
        if ended.dtype != np.bool_:
            raise ValueError(
                f"task {reference!r} gives ends of {ended.dtype}, not bool; write a comparison, as next_obs[..., 0] > 2"
            )
