"""The verb that plans."""

from pathlib import Path
from typing import Annotated, Any

import typer

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Address,
    Agent,
    Agents,
    Backend,
    Force,
    Seed,
    TrustTask,
    Workers,
    apply_trust,
    chosen_agents,
    known_agents,
    refuse_given,
    resumable,
)
from persim_gym.cli.output import console, say
from persim_gym.envs import DOMAINS
from persim_gym.jobs import JobPlace


@resumable
def verb(
    context: typer.Context,
    simulator: Annotated[
        str, typer.Argument(help="Name or path of a simulator; with --truth, the name of a domain.")
    ] = DEFAULT_SIMULATOR,
    agents: Agents = None,
    agent: Agent = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent.")] = 20,
    planner: Annotated[
        str, typer.Option(help="shooting, categorical-cem, cem, icem or mppi. (default: the thesis's)")
    ] = "",
    candidates: Annotated[int | None, typer.Option(min=1, help="Sequences. (default: the planner's own)")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Planning steps.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Rounds of drawing.")] = None,
    elites: Annotated[int | None, typer.Option(min=1, help="Best sequences of a round.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of mppi, in units of return.")] = None,
    bonus: Annotated[bool, typer.Option(help="Add the domain's planning objective, where it has one.")] = True,
    pessimism: Annotated[float, typer.Option(help="Standard deviations over members below their mean.")] = 0.0,
    trust: Annotated[int, typer.Option(help="Steps that predictions are trusted for; 0 for the horizon.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Longest episode; 0 for the domain's own limit.")] = 0,
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Deep models in bytes where the processor can: faster, may earn less.")
    ] = False,
    foresight: Annotated[
        bool | None,
        typer.Option(
            help="Whether plans know what comes from outside, such as the weather; else they hold its present values. "
            "For data of your own with exogenous columns. (default: they know)"
        ),
    ] = None,
    noise: Annotated[
        str, typer.Option(help="none, or residual or gaussian: candidates are ranked by their mean under noise.")
    ] = "none",
    truth: Annotated[bool, typer.Option("--truth", help="Plan in the true environment's own dynamics.")] = False,
    out: Annotated[Path, typer.Option(help="CSV file, one row an episode; rows that are there are kept.")] = Path(
        "persim-out/plan.csv"
    ),
    video: Annotated[
        Path | None, typer.Option(help="Also film the first agent's first episode: a .gif or .mp4 file.")
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
    backend: Backend = "local",
    address: Address = None,
    force: Force = False,
    trust_task: TrustTask = False,
) -> None:
    """Plan in a simulator, act in the true environment, print returns.

    Data of your own have no true environment here: episodes are then simulated, too, and returns stand beside those of
    the logged behaviour, of random and of constant actions. Ctrl-C is safe: the same command goes on and runs no
    episode again that has ended.
    """
    from persim_gym.models import load_learned
    from persim_gym.planning.by_name import planner_label, planner_of
    from persim_gym.workflows.film import check_film
    from persim_gym.workflows.own.plan import own_plan_returns, own_plan_table
    from persim_gym.workflows.plan import (
        NO_DOMAIN,
        PlanSettings,
        known_dynamics,
        plan_returns,
        returns_table,
        write_video,
    )

    if truth:
        refuse_given(
            context, "quantize", "noise", "pessimism", "trust", why="is about simulators; leave it out with --truth"
        )
    if video is not None:
        check_film(video, force)
    apply_trust(simulator, trust_task and not truth)
    chosen = chosen_agents(agents, agent, known=None if truth else known_agents(simulator))
    domain, dynamics, folder = known_dynamics(simulator, truth)
    own = domain == NO_DOMAIN
    if own and video is not None:
        raise ValueError(
            f"simulator {simulator} is of data of no domain here, which has no pictures; leave --video out"
        )
    sizes: dict[str, Any] = {
        "candidates": candidates,
        "horizon": horizon,
        "iterations": iterations,
        "elites": elites,
        "temperature": temperature,
    }
    bonus = bonus and not own and DOMAINS[domain].peak_bonus is not None
    space = load_learned(folder).action_space if own else DOMAINS[domain].action_space
    chosen_planner = planner_of(space, simulator if own else domain, planner, **sizes)
    outside = own and load_learned(folder).spec.layout.exogenous > 0
    if foresight is not None and not outside:
        raise ValueError(f"{simulator} has no simulated columns from outside; leave --foresight out")
    foreseen = outside and foresight is not False
    settings = PlanSettings(domain, dynamics, chosen_planner, bonus, pessimism, trust, steps, quantize, noise, foreseen)
    place: JobPlace = {"workers": workers, "backend": backend, "address": address}
    where = f"true dynamics of {domain}" if truth else simulator
    title = f"{where}, {planner_label(settings.planner)}{', with bonus' * bonus}"
    if not own:
        returns = plan_returns(settings, folder, chosen, episodes, out, seed, force=force, **place)
        console.print(returns_table(title, domain, returns))
    else:
        simulated = own_plan_returns(settings, folder, chosen, episodes, out, seed, force=force, **place)
        console.print(own_plan_table(title, settings, folder, simulated, seed))
    say(f"{out}  the return of every episode")
    if video is not None:
        say(f"{video}  return {write_video(settings, folder, chosen[0], video, seed, force):.1f}")
