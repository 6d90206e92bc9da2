"""`persim video`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import say
from persim_gym.cli.train_policy import SIMULATOR
from persim_gym.cli.trust_task import TrustTask, apply_trust


def verb(
    agent: Annotated[int, typer.Option(help="Agent.")] = 17,
    simulator: Annotated[str, typer.Option(help="Name or path of a simulator.")] = SIMULATOR,
    policy: Annotated[Path | None, typer.Option(help="Result file of train-policy. (default: the test policy)")] = None,
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the initial state.")] = 0,
    tolerance: Annotated[float, typer.Option(help="Distance, in logged standard deviations, that is parting.")] = 0.1,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="One picture: truth opaque, prediction translucent.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="File, .gif or .mp4. (default: persim-out/video/…gif)")] = None,
    trust_task: TrustTask = False,
) -> None:
    """Film the true environment and the simulator under the same actions, side by side or overlaid."""
    from persim_gym.workflows.film import film

    kind = "overlay" if overlay else "side-by-side"
    out = out or Path("persim-out/video") / f"{simulator.strip('/').replace('/', '-')}-agent-{agent}-{kind}.gif"
    apply_trust(simulator, trust_task)
    parted = film(agent, simulator, out, policy=policy, steps=steps, seed=seed, tolerance=tolerance, overlay=overlay)
    when = "never part" if parted is None else f"part at step {parted}"
    say(f"{out}: truth and prediction {when} (by {tolerance:g} standard deviations of the logged observations)")
