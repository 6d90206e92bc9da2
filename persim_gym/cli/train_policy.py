"""Verbs of policies: train them inside simulators, compare that with the truth, and look at both."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import console, numbers, plain_table, say
from persim_gym.cli.trust_task import TrustTask, apply_trust

SIMULATOR = "mountaincar/random-v0"


def verb(
    agent: Annotated[int, typer.Option(help="Agent of the simulator.")] = 17,
    agents: Annotated[str | None, typer.Option(help='Several agents instead, "0-4,17" or "all".')] = None,
    simulator: Annotated[str, typer.Option(help="Name or path of a simulator.")] = SIMULATOR,
    algo: Annotated[str, typer.Option(help="ppo, dqn, sac or td3.")] = "ppo",
    steps: Annotated[int, typer.Option(help="Environment steps; 0 for the default of domain and algorithm.")] = 0,
    n_envs: Annotated[int, typer.Option(help="Rows stepped at once; 0 for the default.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of policy and environments.")] = 0,
    true: Annotated[bool, typer.Option("--true", help="Train in the true environment instead.")] = False,
    member: Annotated[str, typer.Option(help="mean, random (one an episode), or a member's number.")] = "mean",
    penalty: Annotated[float, typer.Option(help="Reward taken off a unit of disagreement.")] = 0.0,
    halt: Annotated[float | None, typer.Option(help="Disagreement that ends an episode. (default: never)")] = None,
    starts: Annotated[str, typer.Option(help="First observations: domain, or logged.")] = "domain",
    out: Annotated[Path | None, typer.Option(help="Folder. (default: persim-out/policies/SIMULATOR-ALGO)")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write its logs (extra: tensorboard).")] = False,
    backend: Annotated[str, typer.Option(help="For several agents: local (joblib), or ray.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster. (default: start Ray here)")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes for several agents. (default: one a core)")] = None,
    trust_task: TrustTask = False,
) -> None:
    """Train a policy inside a simulator and test it in the true environment; Ctrl-C is safe, the command goes on.

    In a simulator of your own data, which has no true environment here, the policy is tested in the simulator alone.
    """
    from persim_gym.policies import PolicyTraining, run_training
    from persim_gym.policies.parallel import train_policies
    from persim_gym.policies.train import default_folder
    from persim_gym.simulator.registry import load_simulator

    environment = {"member": int(member) if member.isdigit() else member, "penalty": penalty, "starts": starts}
    if halt is not None:
        environment["halt"] = halt
    apply_trust(simulator, trust_task)
    training = PolicyTraining(agent, algo, simulator, true, steps, n_envs, seed, environment)
    out = out or default_folder(simulator, algo)
    if agents is None:
        trained = [run_training(training, out, tensorboard=tensorboard)]
    else:
        known = range(load_simulator(simulator).model.config.n_agents)
        chosen = list(known) if agents == "all" else numbers(agents)
        trained = train_policies(
            training, chosen, out, backend=backend, address=address, workers=workers, tensorboard=tensorboard
        )
    table = plain_table({"agent": "right", "in the simulator": "right", "in truth": "right", "seconds": "right"})
    for t in trained:
        inside, outside = (
            "-" if mean is None else f"{mean:.1f} ± {std:.1f}"
            for mean, std in ((t.simulator_return, t.simulator_std), (t.true_return, t.true_std))
        )
        table.add_row(str(t.training.agent), inside, outside, f"{t.seconds:.0f}")
    console.print(table)
    if any(t.true_return is None for t in trained):
        say(f"no true environment is known here (-): tested only in {simulator}, the simulator that it was trained in")
    say(f"{out}: agent-<n>.json is the result, agent-<n>/best_model.zip the policy")
