"""`persim calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import say
from persim_gym.cli.trust_task import TrustTask, apply_trust


def verb(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator; its card is rewritten.")],
    bound: Annotated[float, typer.Option(help="Error not to be passed, in standard deviations of logged data.")] = 0.1,
    level: Annotated[float, typer.Option(help="Probability that it is not.")] = 0.9,
    agents: Annotated[int, typer.Option(help="Agents set aside; at most a fifth of all.")] = 100,
    steps: Annotated[int, typer.Option(help="Longest rollout.")] = 50,
    seed: Annotated[int, typer.Option(help="Chooses the agents and what they are rolled out on.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder. (default: the simulator's own; of a bundled one under $PERSIM_HOME)")
    ] = None,
    trust_task: TrustTask = False,
) -> None:
    """Measure how far a simulator can be trusted, on logged agents that a sibling of it has not seen.

    The sibling is trained first, as long as the simulator was; Ctrl-C is safe, the same command goes on.
    """
    from persim_gym.simulator.diagnostics.trust import Trust
    from persim_gym.workflows.calibrate import calibrate

    apply_trust(simulator, trust_task)
    measured = calibrate(simulator, bound=bound, level=level, agents=agents, steps=steps, seed=seed, out=out)
    trust = Trust.from_json(measured.card.trust)
    say(f"error stays below {trust.scale:.3g} x spread in {level:.0%} of cases; measured {trust.band_coverage:.1%}")
    say(f"any rollout: {trust.horizon} of {trust.steps} steps within {bound} standard deviations, if it lasts so long")
    say(f"{measured.folder}")
