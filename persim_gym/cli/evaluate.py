"""`persim evaluate`."""

from typing import Annotated, Any

import typer
from rich.table import Table

from persim_gym.cli.output import console, numbers, say


def verb(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")] = "mountaincar/random-v0",
    agents: Annotated[str, typer.Option(help='Numbers and ranges, "0-4,17".')] = "0-4",
    agent: Annotated[int | None, typer.Option(help="One agent: what the simulator knows of it, without truth.")] = None,
    episodes: Annotated[int, typer.Option(help="Episodes an agent.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the initial states.")] = 0,
) -> None:
    """Measure open-loop prediction error against the true environment, as the thesis does; or say what is known.

    A simulator of no domain of ours has no true environment: its card's error on logged data is shown instead.
    """
    if agent is not None:
        print_agent(simulator, agent)
        return
    from persim_gym.envs import DOMAINS
    from persim_gym.evaluation.figures import covariate_label
    from persim_gym.evaluation.prediction import format_error
    from persim_gym.models import load_learned
    from persim_gym.simulator.registry import load_simulator
    from persim_gym.workflows.evaluate import evaluate

    card = load_learned(simulator).card
    if not card.domain:
        console.print(logged_error_table(card.name, load_simulator(simulator).card.error))
        return
    errors = evaluate(simulator, numbers(agents), episodes=episodes, seed=seed)
    table = Table(title=f"{card.name}: {episodes} episodes, 50 open-loop steps", header_style="bold")
    for column in ("agent", "covariates", "mean RMSE", "median R²"):
        table.add_column(column)
    for number, error in errors.items():
        label = covariate_label(DOMAINS[card.domain], number)
        table.add_row(str(number), label, format_error(error.mean_rmse), f"{error.median_r2:.3f}")
    console.print(table)


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


def print_agent(simulator: str, agent: int) -> None:
    """Prints what a simulator knows of one agent, and how far its predictions of it can be trusted."""
    import numpy as np

    from persim_gym.simulator.diagnostics.trust import Trust, agent_horizons
    from persim_gym.simulator.registry import load_simulator
    from persim_gym.workflows.calibrate import logged_data

    loaded = load_simulator(simulator)
    beliefs, rank = loaded.known_beliefs(), loaded.model.config.rank
    loaded.dynamics(agent)  # An unknown agent is an error here.
    ratios = beliefs.determination(agent).mean(axis=0)
    say(f"{loaded.card.name}, agent {agent}")
    say(f"transitions seen            {int(beliefs.statistics.seen[agent])}")
    say(f"latent directions left open {beliefs.undetermined(agent):.1f} of {rank}: data say less than the prior")
    say(f"data over prior             {', '.join(f'{ratio:.2g}' for ratio in ratios)} by direction")
    if not loaded.card.trust:
        say("trust horizon               not measured: run `persim calibrate` on it, from 100 agents with data on")
        return
    trust = Trust.from_json(loaded.card.trust)
    horizons, lengths = agent_horizons(loaded.model, beliefs, trust, logged_data(loaded), agent)
    low, middle, high = np.quantile(horizons, (0.1, 0.5, 0.9))
    whole = (horizons == lengths).mean()
    say(
        f"trust horizon               {middle:.0f} steps (10-90 %: {low:.0f}-{high:.0f}; {whole:.0%} of "
        f"{len(horizons)} logged action sequences in full)"
    )
    say(
        f"                            = error within {trust.bound} standard deviations of logged observations, in "
        f"{trust.level:.0%} of trajectories"
    )
    say(
        f"calibration                 error < {trust.scale:.3g} x spread; held on {trust.band_coverage:.1%}, "
        f"horizon on {trust.coverage:.1%} of unseen logged trajectories ({trust.agents} agents)"
    )
    if trust.stranger_coverage is not None:
        say(f"                            and on {trust.stranger_coverage:.1%} of those of agents nothing is known of")
    say(
        "covers                      agents of this population under the policy that logged the data, on average over "
        "them; no other policy"
        + ("" if trust.residuals else ", and least of all where logged data are few: calibrate again to count these")
    )
    profile = ", ".join(f"{t}: {_digits(middle)} ({_digits(high)})" for t, (middle, high) in trust.profile.items())
    spreads = ", ".join(f"{t}: {_digits(spread)}" for t, spread in trust.spread_profile.items())
    say(f"error by step, median (90 %) {profile}")
    say(f"spread by step, median      {spreads}")


def _digits(value: float | None) -> str:
    """Two digits."""
    return "not finite" if value is None else f"{value:.2g}"
