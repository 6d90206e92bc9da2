"""Verbs of what a simulator knows of its agents: new ones, and how far to trust it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from persim_gym.cli.output import console, plain_table, say

if TYPE_CHECKING:
    from persim_gym.simulator.simulator import Simulator
    from persim_gym.transitions import Transitions


def personalize(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator.")],
    data: Annotated[str, typer.Option(help="Minari dataset of new agents; a few transitions of each are enough.")],
    out: Annotated[Path | None, typer.Option(help="Folder. (default: <name>-personalized under $PERSIM_HOME)")] = None,
) -> None:
    """Add agents that training never saw to a simulator, in closed form: no training."""
    import numpy as np

    from persim_gym.datasets import load
    from persim_gym.simulator.registry import load_simulator, simulator_folder

    loaded = load_simulator(simulator)
    name = f"{loaded.card.name}-personalized"
    folder = simulator_folder(name, out)
    transitions = load(data)
    bigger, posterior = loaded.personalize(transitions)
    replace(bigger, card=replace(bigger.card, name=name)).save(folder)
    table = plain_table(dict.fromkeys(("agent", "in the data", "transitions", "directions left open"), "right"))
    for i, number in enumerate(np.unique(transitions.agent)):
        left = f"{posterior.undetermined(i):.1f} of {bigger.model.config.rank}"
        table.add_row(str(loaded.model.config.n_agents + i), str(number), str(int(posterior.evidence.seen[i])), left)
    console.print(table)
    say(f"{folder}")


def calibrate(
    simulator: Annotated[str, typer.Argument(help="Name or path of a simulator; its card is rewritten.")],
    bound: Annotated[float, typer.Option(help="Error not to be passed, in standard deviations of logged data.")] = 0.1,
    level: Annotated[float, typer.Option(help="Probability that it is not.")] = 0.9,
    agents: Annotated[int, typer.Option(help="Agents set aside; at most a fifth of all.")] = 100,
    steps: Annotated[int, typer.Option(help="Longest rollout.")] = 50,
    seed: Annotated[int, typer.Option(help="Chooses the agents and what they are rolled out on.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder. (default: the simulator's own)")] = None,
) -> None:
    """Measure how far a simulator can be trusted, on logged agents that a sibling of it has not seen.

    The sibling is trained first, as long as the simulator was; Ctrl-C is safe, the same command goes on.
    """
    from persim_gym.paths import unfinished
    from persim_gym.simulator.diagnostics.calibrate import measure_trust as measure
    from persim_gym.simulator.registry import load_simulator, simulator_folder
    from persim_gym.simulator.training.checkpoint import rounds_file
    from persim_gym.simulator.training.recipe import TrainingRecipe

    loaded = load_simulator(simulator)
    beliefs = loaded.known_beliefs()  # a simulator without is an error before anything is trained
    folder = simulator_folder(loaded.card.name, out or loaded.folder)
    recipe = TrainingRecipe.from_json(loaded.card.recipe)
    transitions = logged_data(loaded)
    state = unfinished("calibration", transitions.content_hash(), recipe.to_json(), agents, seed)
    checkpoint = Path(f"{state}.safetensors")
    trust = measure(
        loaded.model,
        recipe,
        transitions,
        bound=bound,
        level=level,
        agents=agents,
        steps=steps,
        seed=seed,
        clips=beliefs.prior.clips,
        checkpoint=checkpoint,
    )
    replace(loaded, card=replace(loaded.card, trust=trust.to_json())).save(folder)
    for path in (checkpoint, rounds_file(checkpoint)):
        path.unlink(missing_ok=True)
    say(f"error stays below {trust.scale:.3g} x spread in {level:.0%} of cases; measured {trust.band_coverage:.1%}")
    say(f"any rollout: {trust.horizon} of {trust.steps} steps within {bound} standard deviations, if it lasts so long")
    say(f"{folder}")


def logged_data(simulator: "Simulator") -> "Transitions":
    """The data that a simulator was trained on.

    Raises:
        ValueError: If the dataset of that name is another one now, or is gone.
    """
    from persim_gym.datasets import load
    from persim_gym.transition_store import hash_on_disk

    card = simulator.card
    transitions = load(card.dataset)
    if card.dataset_hash not in (transitions.content_hash(), hash_on_disk(transitions)):
        raise ValueError(
            f"{card.dataset} is not what simulator {card.name} was trained on (its content has another hash); bring "
            "the old one back, or train again"
        )
    return transitions


def print_agent(simulator: str, agent: int) -> None:
    """Prints what a simulator knows of one agent, and how far its predictions of it can be trusted."""
    import numpy as np

    from persim_gym.simulator.diagnostics.trust import Trust, agent_horizons
    from persim_gym.simulator.registry import load_simulator

    loaded = load_simulator(simulator)
    beliefs, rank = loaded.known_beliefs(), loaded.model.config.rank
    loaded.dynamics(agent)  # an unknown agent is an error
    ratios = beliefs.determination(agent).mean(axis=0)
    say(f"{loaded.card.name}, agent {agent}")
    say(f"transitions seen            {int(beliefs.evidence.seen[agent])}")
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
