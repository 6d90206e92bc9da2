"""The option of every verb that loads a simulator: whether to import what its card names."""

from typing import Annotated

import typer

TrustTask = Annotated[
    bool, typer.Option("--trust-task", help="Import the task that the simulator's card names, though it is not yours.")
]


def apply_trust(simulator: str, trusted: bool) -> None:
    """Trusts a simulator's own task for as long as this process and its workers run, if that was asked for."""
    if trusted:
        from persim_gym.simulator.registry import load_simulator

        load_simulator(simulator, trust=True)
