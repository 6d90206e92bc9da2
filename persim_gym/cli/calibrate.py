"""`persim calibrate`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import Force, Seed, SimulatorName, TrustTask, apply_trust, resumable
from persim_gym.cli.output import say, say_simulator


@resumable
def verb(
    simulator: SimulatorName,
    bound: Annotated[float, typer.Option(help="Error not to be passed, in standard deviations of logged data.")] = 0.1,
    level: Annotated[float, typer.Option(help="Probability that it is not.")] = 0.9,
    held_out: Annotated[int, typer.Option(min=1, help="Agents set aside; at most a fifth of all.")] = 100,
    steps: Annotated[int, typer.Option(min=1, help="Longest rollout.")] = 50,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder. (default: the simulator's own; of a bundled one under $PERSIM_HOME)")
    ] = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Measure how far a simulator can be trusted, on logged agents that a sibling of it has not seen.

    The sibling is trained first, as long as the simulator was; Ctrl-C is safe, the same command goes on. The result is
    kept on the simulator's card.
    """
    from persim_gym.simulator.diagnostics.trust import Trust
    from persim_gym.workflows.calibrate import calibrate

    apply_trust(simulator, trust_task)
    measured = calibrate(
        simulator, bound=bound, level=level, held_out=held_out, steps=steps, seed=seed, out=out, force=force
    )
    trust = Trust.from_json(measured.card.trust)
    say(f"error stays below {trust.scale:.3g} x spread in {level:.0%} of cases; measured {trust.band_coverage:.1%}")
    say(f"any rollout: {trust.horizon} of {trust.steps} steps within {bound} standard deviations, if it lasts so long")
    agent = shlex.quote(measured.agent_name(0)).replace("{", "{{").replace("}", "}}")
    say_simulator(measured.folder, f"persim evaluate {{}} --agent {agent}")
