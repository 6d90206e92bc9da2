"""`persim video`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Force,
    Seed,
    SimulatorName,
    TrustTask,
    apply_trust,
    chosen_agents,
    known_agents,
)
from persim_gym.cli.output import say


def verb(
    simulator: SimulatorName = DEFAULT_SIMULATOR,
    agent: Annotated[str, typer.Option(help="Number or name of an agent.")] = "17",
    policy: Annotated[Path | None, typer.Option(help="Result file of train-policy. (default: the test policy)")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 200,
    seed: Seed = 0,
    tolerance: Annotated[float, typer.Option(help="Distance, in logged standard deviations, that is parting.")] = 0.1,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="One picture: truth opaque, prediction translucent.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File, .gif or .mp4. (default: persim-out/video/…gif)")] = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Film the true environment and the simulator under the same actions, side by side or overlaid."""
    from persim_gym.workflows.film import film

    kind = "overlay" if overlay else "side-by-side"
    out = out or Path("persim-out/video") / f"{simulator.strip('/').replace('/', '-')}-agent-{agent}-{kind}.gif"
    apply_trust(simulator, trust_task)
    (number,) = chosen_agents(None, agent, known=known_agents(simulator))
    parted = film(
        number,
        simulator,
        out,
        policy=policy,
        steps=steps,
        seed=seed,
        tolerance=tolerance,
        overlay=overlay,
        force=force,
    )
    when = "never part" if parted is None else f"part at step {parted}"
    say(f"{out}: truth and prediction {when} (by {tolerance:g} standard deviations of the logged observations)")
