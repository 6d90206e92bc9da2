"""`persim baseline`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from persim_gym.cli.evaluate import true_error_table
from persim_gym.cli.options import (
    Address,
    Agent,
    Agents,
    Backend,
    Force,
    Seed,
    Settings,
    Workers,
    agents_in_data,
    chosen_agents,
    refuse_given,
    resumable,
)
from persim_gym.cli.output import console, say, say_simulator


@resumable
def verb(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="cadm, pe-ts-cadm, bcq-p, bcq-a, bc or iql; see `persim methods`.")],
    dataset: Annotated[str, typer.Argument(help="Dataset: one of ours, or any Minari id.")] = "cartpole/pure-v0",
    agents: Agents = None,
    agent: Agent = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Updates. (default: the method's; thesis: 550000 of BCQ)")
    ] = (None),
    settings: Settings = None,
    episodes: Annotated[int, typer.Option(min=1, help="Test episodes an agent; the thesis takes 100.")] = 20,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. (default: persim-out/baselines/DATASET-NAME)")] = None,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
) -> None:
    """Train a method that PerSim is compared with, and test it in the true environment.

    The agents are those that it is tested on; bcq-a trains a policy of each. cadm and pe-ts-cadm are models, as
    simulators are: their prediction errors are shown. Ctrl-C is safe: the same command goes on.
    """
    from persim_gym.baselines.cadm.config import KINDS
    from persim_gym.baselines.registry import baseline_folder, find_baseline
    from persim_gym.datasets.registry import find_dataset
    from persim_gym.simulator.registry import list_simulators
    from persim_gym.workflows.baseline import train_and_test, train_context_model
    from persim_gym.workflows.evaluate import true_errors
    from persim_gym.workflows.plan import returns_table

    chosen = chosen_agents(agents, agent, known=agents_in_data(dataset))
    if name in KINDS:
        refuse_given(context, "workers", "backend", "address", why="is for bcq-a")
        options: dict[str, Any] = {"settings": settings or (), "iterations": iterations, "seed": seed, "out": out}
        model = train_context_model(name, dataset, **options, force=force)
        errors = true_errors(model, chosen, episodes=episodes, seed=seed)
        console.print(true_error_table(model.card.name, model.card.domain, errors))
        say_simulator(model.folder, f"persim plan {{}} --agents {','.join(map(str, chosen))}")
        return
    if find_baseline(name).pooled:
        refuse_given(context, "backend", "address", why="is for bcq-a")
    returns = train_and_test(
        name,
        dataset,
        chosen,
        out=out,
        episodes=episodes,
        workers=workers,
        backend=backend,
        address=address,
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
    if ours is not None and ours.name in list_simulators():
        say(f"next: persim plan {ours.name} --agents {','.join(map(str, chosen))}  # the simulator beside it")
    else:
        say(f"next: persim train {dataset}  # a simulator beside it")
