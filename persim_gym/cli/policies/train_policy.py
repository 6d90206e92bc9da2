"""`persim train-policy`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Address,
    Agent,
    Backend,
    Force,
    Seed,
    Settings,
    SimulatorName,
    TrustTask,
    Workers,
    apply_trust,
    chosen_agents,
    known_agents,
    refuse_given,
    resumable,
)
from persim_gym.cli.output import console, plain_table, say
from persim_gym.jobs import check_place
from persim_gym.labels import NO_LABELS

INSIDE = ("member", "penalty", "halt", "starts")
"""Options of the simulator as an environment."""


@resumable
def verb(
    context: typer.Context,
    simulator: SimulatorName = DEFAULT_SIMULATOR,
    agents: Annotated[
        str | None, typer.Option(help='Numbers and ranges, "0-4,17", names, or all. (default: 17)')
    ] = None,
    agent: Agent = None,
    algo: Annotated[str, typer.Option(help="ppo, dqn, sac or td3.")] = "ppo",
    steps: Annotated[int, typer.Option(min=0, help="Environment steps; 0 for the default of the domain.")] = 0,
    n_envs: Annotated[int, typer.Option(min=0, help="Rows stepped at once; 0 for the default.")] = 0,
    settings: Settings = None,
    seed: Seed = 0,
    truth: Annotated[bool, typer.Option("--truth", help="Train in the true environment instead.")] = False,
    member: Annotated[str, typer.Option(help="mean, random (one an episode), or a member's number.")] = "mean",
    penalty: Annotated[float, typer.Option(help="Reward taken off a unit of disagreement.")] = 0.0,
    halt: Annotated[float | None, typer.Option(help="Disagreement that ends an episode. (default: never)")] = None,
    starts: Annotated[str, typer.Option(help="First observations: domain, or logged.")] = "domain",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: persim-out/policies/SIMULATOR-ALGO)")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write its logs (extra: tensorboard).")] = False,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Train a policy inside a simulator and test it in the true environment; Ctrl-C is safe, the command goes on.

    In a simulator of your own data, which has no true environment here, the policy is tested in the simulator alone.
    """
    from persim_gym.policies import PolicyTraining, run_training
    from persim_gym.policies.parallel import train_policies
    from persim_gym.policies.train import default_folder
    from persim_gym.simulator.registry import load_simulator

    apply_trust(simulator, trust_task)
    if truth:
        refuse_given(context, *INSIDE, why="is about the simulator as an environment; leave it out with --truth")
    environment: dict[str, Any] = {"member": int(member) if member.isdigit() else member, "penalty": penalty}
    environment |= {"starts": starts} | ({"halt": halt} if halt is not None else {})
    everyone = agents == "all" and agent is None
    chosen = (
        list(range(load_simulator(simulator).model.config.n_agents))
        if everyone
        else chosen_agents(agents, agent, default="17", known=None if truth else known_agents(simulator))
    )
    training = PolicyTraining(
        chosen[0], algo, simulator, truth, steps, n_envs, seed, environment, hyperparameters(settings or ())
    )
    out = out or default_folder(simulator, algo)
    if len(chosen) == 1 and backend == "local":
        check_place(backend, address)
        refuse_given(context, "workers", why="is for several agents")
        trained = [run_training(training, out, tensorboard=tensorboard, force=force)]
    else:
        trained = train_policies(
            training,
            chosen,
            out,
            backend=backend,
            address=address,
            workers=workers,
            tensorboard=tensorboard,
            force=force,
        )
    names = (known_agents(simulator) or (NO_LABELS, 0))[0]
    table = plain_table({"agent": "right", "in the simulator": "right", "in truth": "right", "seconds": "right"})
    for t in trained:
        inside, outside = (
            "-" if mean is None else f"{mean:.1f} ± {std:.1f}"
            for mean, std in ((t.simulator_return, t.simulator_std), (t.true_return, t.true_std))
        )
        table.add_row(names.agent_name(t.training.agent), inside, outside, f"{t.seconds:.0f}")
    console.print(table)
    if any(t.true_return is None for t in trained):
        say(f"no true environment is known here (-): tested only in {simulator}, the simulator that it was trained in")
    if not trained[0].domain:
        from persim_gym.workflows.own_policies import own_policies_table

        console.print(own_policies_table(trained, out, seed))
    number = f" (<n> of {names.agents[chosen[0]]} is {chosen[0]})" if names.agents else ""
    say(f"{out}: agent-<n>.json is the result, agent-<n>/best_model.zip the policy{number}")
    if trained[0].domain:
        say(f"next: persim video {simulator} --agent {chosen[0]} --policy {out / f'agent-{chosen[0]}.json'}")


def hyperparameters(settings: "list[str] | tuple[str, ...]") -> dict[str, Any]:
    """Reads hyperparameters that are each written "name=value", with the value as JSON has it.

    Raises:
        ValueError: If one is not.
    """
    read: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            read[name] = json.loads(text)
        except ValueError:
            raise ValueError(
                f"{setting!r} sets nothing; write name=value with a number, true, false, null, a list or a quoted "
                "text, as learning_rate=0.001"
            ) from None
    return read
