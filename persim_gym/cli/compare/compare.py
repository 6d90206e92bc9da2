"""`persim compare`."""

from pathlib import Path
from typing import Annotated

import typer

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Agent,
    Agents,
    Force,
    Seed,
    chosen_agents,
    known_agents,
)
from persim_gym.cli.output import console, say


def verb(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")] = DEFAULT_SIMULATOR,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=WHAT, may be repeated: a policy folder or agent-N.json, a .zip of Stable-Baselines3, a .onnx "
            "file, module:name, mpc, mpc:PLANNER:candidates=100, constant:ACTION, random or logged."
        ),
    ] = None,
    agents: Agents = None,
    agent: Agent = None,
    baseline: Annotated[
        str, typer.Option(help="Candidate to beat; logged: the agent's own behaviour, cloned; none for no one.")
    ] = "logged",
    draws: Annotated[int, typer.Option(min=2, help="Draws of what the simulator does not know of the agent.")] = 30,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes of each draw.")] = 10,
    steps: Annotated[int, typer.Option(min=0, help="Longest episode; 0 for the simulator's limit.")] = 0,
    discount: Annotated[float, typer.Option(help="Of rewards, a step.")] = 1.0,
    noise: Annotated[
        str,
        typer.Option(
            help="Of each step: gaussian (as `persim calibrate` measured it), residual (errors on the nearest logged "
            "transitions), none, or auto: gaussian where it was measured, else none."
        ),
    ] = "auto",
    objective: Annotated[
        str, typer.Option(help="What an episode is worth: return (all rewards), or terminal (the last one alone).")
    ] = "return",
    fitted_q: Annotated[
        bool, typer.Option("--fitted-q/--no-fitted-q", help="Add fitted Q evaluation on the logged transitions.")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="CSV file to write. (default: none)")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf. (default: none)")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Read files that hold pickles, and import the task of the simulator's card.")
    ] = False,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Tell which policy is best for each agent, and how sure that is, without the real agent.

    Each candidate acts in the agent's simulator under many draws of what that does not know, with the same starts and
    random numbers.
    """
    from persim_gym.comparison.compare import compare
    from persim_gym.comparison.results import check_table
    from persim_gym.storage import check_own_file

    if out is not None:
        check_table(out, force)
    if plot is not None:
        check_own_file(plot, force)
    given = dict[str, str]()
    for text in policy or ():
        name, sign, what = text.partition("=")
        name, what = (name, what) if sign and ":" not in name else (text, text)
        if name in given:
            raise ValueError(f"two candidates are called {name!r}; give each another name: --policy NAME=WHAT")
        given[name] = what
    if trust:
        from persim_gym.models import load_learned

        load_learned(simulator, trust=True)
    chosen = chosen_agents(agents, agent, known=known_agents(simulator))
    found = compare(
        simulator,
        given,
        chosen,
        baseline=baseline,
        fitted_q=fitted_q,
        trust=trust,
        progress=True,
        draws=draws,
        episodes=episodes,
        steps=steps,
        discount=discount,
        seed=seed,
        noise=noise,
        objective=objective,
    )
    console.print(found.table())
    if out is not None:
        say(f"{found.write_csv(out, force)}  every candidate of every agent")
    if plot is not None:
        say(f"{found.plot(plot)}  the intervals")
