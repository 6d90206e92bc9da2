"""Arguments and options that mean the same in every verb, and checks of what was given."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer

from persim_gym.cli.output import complain, numbers

DEFAULT_SIMULATOR = "mountaincar/random-v0"
TEST_AGENTS = "0-4"
"""The thesis's five test agents."""

SimulatorName = Annotated[str, typer.Argument(help="Name or path of a simulator.")]
Agents = Annotated[str | None, typer.Option(help=f'Numbers and ranges, "0-4,17". (default: {TEST_AGENTS})')]
Agent = Annotated[int | None, typer.Option(min=0, help="One agent: short for --agents N.")]
Seed = Annotated[int, typer.Option(min=0, help="Source of all randomness.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes, or Ray tasks at once. (default: one a core)")]
Backend = Annotated[str, typer.Option(help="Where jobs run: local (processes of this machine), or ray (extra: ray).")]
Address = Annotated[
    str | None, typer.Option(help="Of a Ray cluster: auto or host:port. (default: start Ray on this machine)")
]
Force = Annotated[bool, typer.Option("--force", help="Do it anew, and replace what is there.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Changes a setting: --set learning_rate=0.001; may be repeated.")
]
TrustTask = Annotated[
    bool, typer.Option("--trust-task", help="Import the task that the simulator's card names, though it is not yours.")
]

INTERRUPTED = 130
"""Exit status of a process that Ctrl-C ended, as shells have it."""

P = ParamSpec("P")
R = TypeVar("R")


def chosen_agents(agents: str | None, agent: int | None, default: str = TEST_AGENTS) -> list[int]:
    """The agents that --agents or --agent name, each once.

    Raises:
        ValueError: If both are given, or it is no list of agents.
    """
    if agents is not None and agent is not None:
        raise ValueError("give --agents or --agent, not both")
    return [agent] if agent is not None else list(dict.fromkeys(numbers(default if agents is None else agents)))


def apply_trust(simulator: str, trusted: bool) -> None:
    """Trusts a simulator's own task for as long as this process and its workers run, if that was asked for."""
    if trusted:
        from persim_gym.models import load_learned

        load_learned(simulator, trust=True)


def refuse_given(context: typer.Context, *names: str, why: str) -> None:
    """Refuses options that would have no effect.

    Args:
        context: Of the verb.
        names: Names of its parameters.
        why: Ends the sentence that starts with the option's name.

    Raises:
        ValueError: If one of them was given on the command line.
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(o for p in context.command.params if p.name == name for o in p.opts)
            raise ValueError(f"{option} {why}")


def resumable(verb: Callable[P, R]) -> Callable[P, R]:
    """Marks a verb that goes on where it stopped: after Ctrl-C it says so."""

    @wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except KeyboardInterrupt:
            complain("interrupted; the same command goes on where it stopped")
            sys.exit(INTERRUPTED)

    return run
