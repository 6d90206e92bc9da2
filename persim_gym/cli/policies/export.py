"""`persim export`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import Force, Seed, TrustTask, apply_trust
from persim_gym.cli.output import say


def verb(
    source: Annotated[
        str,
        typer.Argument(help="Policy: agent-<n>.json or folder of train-policy, folder of a baseline. Or a simulator."),
    ],
    agent: Annotated[
        str | None, typer.Option(help="Number or name: whose dynamics, or which policy of a folder.")
    ] = None,
    member: Annotated[str, typer.Option(help="Of a simulator: mean, all, or a member's number.")] = "mean",
    out: Annotated[Path | None, typer.Option(help="File. (default: persim-out/onnx/…onnx)")] = None,
    seed: Seed = 0,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Write a trained policy, or a simulator's dynamics of one agent, as an ONNX file (extra: onnx).

    Scaling, bounds and walls are inside. What onnxruntime computes from the file is compared with what is computed
    here on random observations; where it differs by more than 0.00001, nothing is written.
    """
    from persim_gym.workflows.export import export

    if trust_task:
        apply_trust(source, trust_task)
    written = export(source, agent=agent, member=member, out=out, seed=seed, force=force)
    takes, gives = (", ".join(f"{k} {v}" for k, v in part.items()) for part in (written.inputs, written.outputs))
    say(f"{written.path}: {written.what}")
    say(f"takes {takes}; gives {gives}; onnxruntime differs by {written.difference:.1g} at most")
    if "action" in written.outputs:
        say(f"in Python: persim_gym.onnx_files.OnnxPolicy({str(written.path)!r}).predict(obs)")
