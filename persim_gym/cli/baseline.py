"""`persim baseline`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import console, numbers, say


def verb(
    name: Annotated[str, typer.Argument(help="bcq-p, bcq-a, bc or iql; see `persim methods`.")],
    dataset: Annotated[str, typer.Argument(help="Dataset: one of ours, or any Minari id.")] = "cartpole/pure-v0",
    agents: Annotated[
        str, typer.Option(help='Tested, and for bcq-a trained, a policy each: numbers and ranges, "0-4,17".')
    ] = "0-4",
    iterations: Annotated[int | None, typer.Option(min=1, help="Updates. (default: the method's; thesis: 550000)")] = (
        None
    ),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a setting; may be repeated.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Test episodes an agent; the thesis takes 100.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. (default: persim-out/baselines/DATASET-NAME)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another baseline that is in the folder.")] = False,
    workers: Annotated[int | None, typer.Option(help="Processes, for bcq-a. (default: one a core)")] = None,
) -> None:
    """Train a method that PerSim is compared with, test it in the true environment; Ctrl-C is safe, it goes on."""
    from persim_gym.baselines.registry import baseline_folder
    from persim_gym.datasets.registry import find_dataset
    from persim_gym.simulator.registry import list_simulators
    from persim_gym.workflows.baseline import train_and_test
    from persim_gym.workflows.plan import returns_table

    chosen = numbers(agents)
    returns = train_and_test(
        name,
        dataset,
        chosen,
        out=out,
        episodes=episodes,
        workers=workers,
        iterations=iterations,
        settings=settings or (),
        seed=seed,
        force=force,
    )
    ours = find_dataset(dataset)
    if ours is None:
        say(f"{dataset} is of no domain here: there is no true environment to test the policy in")
    else:
        console.print(returns_table(f"{name} on {ours.name}, in the true environment", ours.domain.name, returns))
    say(f"{out or baseline_folder(name, dataset)}  the policy; persim_gym.baselines.registry.load_baseline loads it")
    known = ours is not None and ours.name in list_simulators()
    say(f"next: persim {f'plan {ours.name} --agents {agents}' if ours and known else f'train {dataset}'}")
