"""`persim methods`."""

from persim_gym.cli.output import say


def verb() -> None:
    """List the methods of the thesis and ours: what each may see of an agent, and what runs it."""
    from persim_gym.baselines.methods import METHODS

    for method in METHODS:
        say(f"{method.name} ({method.kind}; sees {method.sees}; {method.source})")
        say(f"  {method.command}")
