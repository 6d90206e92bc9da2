"""Verbs of policies: train them inside simulators, compare that with the truth, and look at both."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.output import console, numbers, plain_table, say

SIMULATOR = "mountaincar/random-v0"


def train_policy(
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
) -> None:
    """Train a policy inside a simulator and test it in the true environment; Ctrl-C is safe, the command goes on.

    In a simulator of your own data, which has no true environment here, the policy is tested in the simulator alone.
    """
    from persim_gym.policies import PolicyTraining
    from persim_gym.policies import train_policy as train_one
    from persim_gym.policies.parallel import train_policies
    from persim_gym.simulator.registry import load_simulator

    environment = {"member": int(member) if member.isdigit() else member, "penalty": penalty, "starts": starts}
    if halt is not None:
        environment["halt"] = halt
    training = PolicyTraining(agent, algo, simulator, true, steps, n_envs, seed, environment)
    out = out or Path("persim-out/policies") / f"{simulator.strip('/').replace('/', '-')}-{algo}"
    if agents is None:
        trained = [train_one(training, out, tensorboard=tensorboard)]
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


def compare_training(
    domain: Annotated[list[str] | None, typer.Option(help="Domain. (default: cartpole and mountaincar)")] = None,
    agents: Annotated[str, typer.Option(help="Agents; 0-4 are the thesis's test agents.")] = "0-4",
    seeds: Annotated[int, typer.Option(help="Seeds an agent and place.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of returns.csv, table.md and the policies.")] = Path(
        "persim-out/training"
    ),
    workers: Annotated[int | None, typer.Option(help="Processes. (default: one a core)")] = None,
) -> None:
    """Train policies in the simulator and in the true environment; the same command goes on where it stopped."""
    from persim_gym.storage import write_text
    from persim_gym.studies.policy_training import CHOSEN_ALGORITHMS, training_table
    from persim_gym.studies.policy_training import compare_training as compare

    table = training_table(compare(domain or list(CHOSEN_ALGORITHMS), numbers(agents), seeds, out, workers))
    write_text(out / "table.md", table)
    say(table)


def video(
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
) -> None:
    """Film the true environment and the simulator under the same actions, side by side or overlaid."""
    from persim_gym.workflows.film import film

    kind = "overlay" if overlay else "side-by-side"
    out = out or Path("persim-out/video") / f"{simulator.strip('/').replace('/', '-')}-agent-{agent}-{kind}.gif"
    parted = film(agent, simulator, out, policy=policy, steps=steps, seed=seed, tolerance=tolerance, overlay=overlay)
    when = "never part" if parted is None else f"part at step {parted}"
    say(f"{out}: truth and prediction {when} (by {tolerance:g} standard deviations of the logged observations)")
