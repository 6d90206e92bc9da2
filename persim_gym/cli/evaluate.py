"""`persim evaluate`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from persim_gym.cli.options import (
    DEFAULT_SIMULATOR,
    Agent,
    Agents,
    Seed,
    SimulatorName,
    TrustTask,
    apply_trust,
    chosen_agents,
    refuse_given,
)
from persim_gym.cli.output import console, paragraph, plain_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from persim_gym.evaluation.prediction import PredictionError
    from persim_gym.simulator.diagnostics.trust import Trust
    from persim_gym.simulator.simulator import Simulator


def verb(
    context: typer.Context,
    simulator: SimulatorName = DEFAULT_SIMULATOR,
    agents: Agents = None,
    agent: Agent = None,
    episodes: Annotated[int, typer.Option(min=1, help="Episodes an agent.")] = 200,
    plot: Annotated[Path | None, typer.Option(help="Also draw predictions beside what happened: a .png file.")] = None,
    seed: Seed = 0,
    trust_task: TrustTask = False,
) -> None:
    """Measure prediction error against the true environment; of one agent, tell what is known of it, too.

    Predictions run for 50 steps without correction, as in the thesis. Data of your own have no true environment here:
    shown are the errors, by horizon, on data that were held out when the simulator was trained, beside simpler
    predictions; and of one agent, what is known of it.
    """
    from persim_gym.envs import DOMAINS
    from persim_gym.evaluation.figures import trajectories_figure
    from persim_gym.models import load_learned
    from persim_gym.simulator.simulator import Simulator
    from persim_gym.storage import check_own_file
    from persim_gym.workflows.evaluate import plot_held_out, true_errors

    if plot is not None:
        check_own_file(plot)
    apply_trust(simulator, trust_task)
    loaded = load_learned(simulator)
    card = loaded.card
    if not card.domain:
        refuse_given(context, "episodes", "seed", why="is for a true environment, which data of no domain do not have")
        if not isinstance(loaded, Simulator):
            raise ValueError(
                f"{card.name} is of data of no domain here: there is no true environment to compare it with"
            )
        if plot is not None:
            plot_held_out(loaded, plot)
            say(f"{plot}  predictions and bands beside what was held out")
        if agents is None and agent is None:
            print_own_errors(loaded)
            say(f"next: persim evaluate {simulator} --agent {shlex.quote(loaded.agent_name(0))}")
            return
    chosen = chosen_agents(agents, agent, known=(loaded.labels, loaded.n_agents) if loaded.labels.agents else None)
    for number in chosen:
        loaded.dynamics(number)  # An unknown agent is an error here.
    if not card.domain and len(chosen) > 1:
        raise ValueError(
            f"simulator {card.name} is of data of no domain here, which has no true environment to compare several "
            "agents with; give one, --agent N"
        )
    inside = card.domain and max(chosen) < len(DOMAINS[card.domain].population)
    if inside or len(chosen) > 1:
        errors = true_errors(loaded, chosen, episodes=episodes, seed=seed)
        console.print(true_error_table(card.name, card.domain, errors))
        if plot is not None:
            trajectories_figure(DOMAINS[card.domain], errors, plot)
            say(f"{plot}  predictions beside the true environment")
    if len(chosen) == 1 and isinstance(loaded, Simulator):
        print_agent(loaded, chosen[0])


def true_error_table(name: str, domain: str, errors: "Mapping[int, PredictionError]") -> Table:
    """One row an agent: errors against the true environment."""
    from persim_gym.envs import DOMAINS
    from persim_gym.evaluation.figures import covariate_label
    from persim_gym.evaluation.prediction import format_error

    episodes = max(len(error.rmse) for error in errors.values())
    table = Table(title=f"{name}: {episodes} episodes, 50 open-loop steps", header_style="bold")
    for column in ("agent", "covariates", "mean RMSE", "median R²"):
        table.add_column(column)
    for number, error in errors.items():
        label = covariate_label(DOMAINS[domain], number)
        table.add_row(str(number), label, format_error(error.mean_rmse), f"{error.median_r2:.3f}")
    return table


def print_own_errors(simulator: "Simulator") -> None:
    """Prints the errors of a simulator of no domain: on data that were held out, else on those it was trained on."""
    from persim_gym.evaluation.horizon_tables import horizon_tables
    from persim_gym.evaluation.horizons import BY_HORIZON
    from persim_gym.workflows.evaluate import horizon_report

    error = simulator.card.error
    if BY_HORIZON not in error:
        console.print(logged_error_table(simulator.card.name, error))
        return
    say(
        f"{simulator.card.name}: measured on a simulator of the same recipe that had not seen these data; this one was "
        "then trained on all of them"
    )
    console.print(horizon_tables(horizon_report(simulator)))


def logged_error_table(name: str, error: dict[str, Any]) -> Table:
    """The error profile of a card."""
    from persim_gym.simulator.model_card import four_digits

    table = Table(title=f"{name}: error on its {error.get('data', 'data')}", header_style="bold")
    for column in ("what", "RMSE", "R²"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, rmse, r2 in zip(
        error.get("columns", []), error.get("one_step_rmse", []), error.get("one_step_r2", []), strict=True
    ):
        table.add_row(f"{what}, one step", four_digits(rmse), four_digits(r2))
    for step, rmse in zip(error.get("steps", []), error.get("open_loop", []), strict=True):
        table.add_row(f"{step} open-loop steps (standard deviations)", four_digits(rmse), "")
    return table


def print_agent(simulator: "Simulator", agent: int) -> None:
    """Prints what a simulator knows of one agent, and how far its predictions of it can be trusted."""
    name = simulator.agent_name(agent)
    if simulator.beliefs is None:
        say(f"\nwhat is known of agent {name}: not kept, since this simulator was trained without beliefs")
        return
    beliefs, rank = simulator.beliefs, simulator.model.config.rank
    least = beliefs.determination(agent).mean(axis=0).min()
    say(f"\nWhat is known of agent {name}")
    paragraph(
        f"{int(beliefs.statistics.seen[agent]):,} transitions of it were seen. {rank} numbers tell agents apart; of "
        f"this one's, the data leave {beliefs.undetermined(agent):.1f} open. Of the least known one, the "
        f"data say {least:.2g} times as much as was known before of any agent."
    )
    say("\nHow far to trust predictions of it")
    if not simulator.card.trust:
        paragraph("Not measured yet: `persim calibrate` does that, from 100 agents with data on.")
        return
    from persim_gym.simulator.diagnostics.trust import Trust

    trust = Trust.from_json(simulator.card.trust)
    _print_horizon(simulator, trust, agent)
    _print_profile(trust)


def _print_horizon(simulator: "Simulator", trust: "Trust", agent: int) -> None:
    """How many steps predictions of an agent can be trusted for, and what that was checked on."""
    import numpy as np

    from persim_gym.datasets.of_simulator import logged_data
    from persim_gym.simulator.diagnostics.trust import agent_horizons

    horizons, lengths = agent_horizons(simulator.model, simulator.known_beliefs(), trust, logged_data(simulator), agent)
    low, middle, high = np.quantile(horizons, (0.1, 0.5, 0.9))
    whole = (horizons == lengths).mean()
    paragraph(
        f"For {middle:.0f} steps the error stays within {trust.bound} standard deviations of the logged observations, "
        f"with a probability of {trust.level:.0%}. That is the median over {len(horizons)} logged sequences of "
        f"actions; most lie between {low:.0f} and {high:.0f} steps, and {whole:.0%} hold to their end."
    )
    strangers = f", and for {trust.stranger_coverage:.1%} of those of agents nothing was known of"
    paragraph(
        f"Checked on {trust.agents} agents that were not trained on: it held for {trust.coverage:.1%} of their "
        f"trajectories{strangers if trust.stranger_coverage is not None else ''}. The error was below "
        f"{trust.scale:.3g} times the spread of the members for {trust.band_coverage:.1%}."
    )
    paragraph(
        "It is a promise for agents of this population under the policy that logged the data, on average over them. It "
        "says nothing of other policies."
        + ("" if trust.residuals else " Where logged data are few it is worth least: calibrate again to count these.")
    )


def _print_profile(trust: "Trust") -> None:
    """Errors and spreads by step."""
    say("\nError by step, in standard deviations of the logged observations")
    columns = ("step", "median", "90 % are below", "spread of members")
    table = plain_table(dict.fromkeys(columns, "right"))
    for step, (middle, high) in trust.profile.items():
        table.add_row(str(step), _digits(middle), _digits(high), _digits(trust.spread_profile.get(step)))
    console.print(table)


def _digits(value: float | None) -> str:
    """Two digits."""
    return "not finite" if value is None else f"{value:.2g}"
