"""One agent: what is known of it, its log, what it would do otherwise, and which policy suits it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.actions import layout_of
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.traces import COVERAGE
from persim_gym.reports.about import DEVIATIONS, MAX_PANELS, observed_names
from persim_gym.reports.charts import Line, chart, legend, panels
from persim_gym.reports.compared import Compared, compared_part, of_agent
from persim_gym.reports.markup import facts, paragraphs, section, table, unknown
from persim_gym.reports.what_if import AS_LOGGED, Start, longest_run, start_of, what_if_rollouts
from persim_gym.simulator.diagnostics.trust import Trust, agent_horizons
from persim_gym.simulator.simulator import Simulator
from persim_gym.transitions import Transitions


def agent_part(
    simulator: Simulator, agent: int, data: Transitions | None, compared: Sequence[Compared] | None, seed: int
) -> str:
    """The section of an agent.

    Args:
        simulator: The simulator.
        agent: Its number.
        data: What the simulator was trained on; None where that is not here.
        compared: Rows of a comparison of policies; None where none is given.
        seed: Of rollouts.
    """
    start = start_of(simulator, data, agent)
    body = [_known(simulator, agent, data), "<h3>Its log</h3>", _log(simulator, agent, data)]
    body += ["<h3>What if</h3>", _what_if(simulator, agent, start, seed)]
    if compared is not None:
        own = of_agent(list(compared), agent, simulator.labels)
        nothing = unknown("The comparison that was given has no rows of this agent.")
        body += ["<h3>Compared policies</h3>", compared_part(own) if own else nothing]
    return section(f"Agent {simulator.agent_name(agent)}", "".join(body), f"agent-{agent}")


def _known(simulator: Simulator, agent: int, data: Transitions | None) -> str:
    """What the simulator knows of the agent, and for how long it can be trusted."""
    card, rows, missing = simulator.card, dict[str, object](), list[str]()
    if card.domain and agent < len(DOMAINS[card.domain].population):
        rows["true covariates"] = f"{covariate_label(DOMAINS[card.domain], agent)} (the simulator never saw them)"
    if simulator.beliefs is None:
        missing.append("What the data say of this agent was not kept: the simulator was trained without beliefs.")
    else:
        seen, rank = int(simulator.beliefs.statistics.seen[agent]), simulator.model.config.rank
        rows["transitions seen"] = f"{seen:,}"
        rows["left open"] = (
            f"{simulator.beliefs.undetermined(agent):.1f} of the {rank} numbers that tell agents apart: there the "
            "population's prior says more than this agent's data"
        )
    if card.trust and data is not None and simulator.beliefs is not None:
        trust = Trust.from_json(card.trust)
        horizons, lengths = agent_horizons(simulator.model, simulator.beliefs, trust, data, agent)
        low, middle, high = np.quantile(horizons, (0.1, 0.5, 0.9))
        rows["trust horizon"] = (
            f"{middle:.0f} steps (median of {len(horizons)} logged sequences of actions, most from {low:.0f} to "
            f"{high:.0f}; {(horizons == lengths).mean():.0%} hold to their end): so long the error stays below "
            f"{trust.bound:g} {DEVIATIONS}, with a probability of {trust.level:.0%}"
        )
    return facts(rows) + unknown(*missing)


def _log(simulator: Simulator, agent: int, data: Transitions | None) -> str:
    """What was logged of the agent."""
    if data is None:
        return unknown("The data that the simulator was trained on are not here as they were.")
    rows = longest_run(data, agent)
    if not len(rows):
        return unknown("The data that the simulator was trained on hold nothing of this agent.")
    own = data.select(data.agent == agent)
    episodes, pieces = len(np.unique(own.trajectory)), len(np.unique(own.pieces))
    said = f"{len(own):,} transitions in {_counted(episodes, 'trajectory', 'trajectories')}"
    if pieces > 1:
        said += f" and {pieces} runs without a gap; drawn is the longest one, of {len(rows):,}"
    steps, layout = np.arange(len(rows), dtype=np.float64), simulator.spec.layout
    names, reward_name = observed_names(simulator), simulator.spec.predicted_names[simulator.model.config.obs_dim]
    charts = [
        chart(names[d], [Line(names[d], steps, data.obs[rows, d].astype(np.float64))], "step")
        for d in range(min(layout.present, MAX_PANELS))
    ]
    charts += _actions(simulator, steps, data.action[rows])
    reward = data.reward[rows].astype(np.float64)
    charts.append(chart(reward_name, [Line("reward", steps, reward)], "step"))
    more = layout.present - MAX_PANELS
    return paragraphs(f"{said}.") + panels(charts) + paragraphs(f"{more} more observations are left out." * (more > 0))


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _actions(simulator: Simulator, steps: NDArray[np.float64], actions: NDArray[Any]) -> list[str]:
    """What was done: a picture of each choice, and of each amount."""
    labels = simulator.labels
    if actions.ndim == 1:
        name = labels.actions[0] if len(labels.actions) == 1 else "action"
        return [_choices(name, labels.choices, steps, actions)]
    names = labels.actions or tuple(f"action {a}" for a in range(actions.shape[1]))
    layout = layout_of(simulator.action_space)
    blocks = {} if layout is None else {block.start: block for block in layout.blocks}
    charts, a = list[str](), 0
    while a < len(names):
        if block := blocks.get(a):
            charts.append(_choices("", names[block], steps, actions[:, block].argmax(axis=1)))
            a = block.stop
        else:
            line = Line(names[a], steps, actions[:, a].astype(np.float64))
            charts.append(chart(labels.with_unit(names[a]), [line], "step"))
            a += 1
    return charts[:MAX_PANELS]


def _choices(name: str, choices: Sequence[str], steps: NDArray[np.float64], chosen: NDArray[Any]) -> str:
    """A picture of numbers that stand for choices, whose names are in the title."""
    listed = "; ".join(f"{i} {choice}" for i, choice in enumerate(choices[:MAX_PANELS]))
    title = ": ".join(filter(None, (name, f"{listed}{'; …' * (len(choices) > MAX_PANELS)}")))
    return chart(title, [Line(title, steps, chosen.astype(np.float64), dots=True, joined=False)], "step", whole=True)


def _what_if(simulator: Simulator, agent: int, start: Start | None, seed: int) -> str:
    """Rollouts under several actions, with their bands."""
    if start is None:
        return unknown("No first observation is known, so that no rollout can begin.")
    found = what_if_rollouts(simulator, start, agent, seed)
    steps = np.arange(1, len(start.following) + 1, dtype=np.float64)
    charts, lines = list[str](), list[Line]()
    layout, names = simulator.spec.layout, observed_names(simulator)
    for d in range(min(layout.learned, MAX_PANELS)):
        lines = [
            Line(r.name, steps[: len(r.middle)], r.middle[:, d], 1 + i, r.low[:, d], r.high[:, d])
            for i, r in enumerate(found)
        ]
        if start.actions is not None:
            lines.insert(0, Line("what was logged", steps, start.following[:, d].astype(np.float64), 0))
        charts.append(chart(names[d], lines, "step without correction"))
    rows = [(r.name, f"{r.earned:.4g}", r.steps, "yes" if r.ended else "no") for r in found]
    header = ("what is done", "predicted reward, summed", "steps", "ends there")
    strange = "Its log is not here: rollouts begin at a first observation of its own or, without one, of another agent."
    said = "" if found[0].name == AS_LOGGED else strange
    return legend(lines) + panels(charts) + table(header, rows) + unknown(said)


def reading_part(simulator: Simulator) -> str:
    """How to read the agents' sections."""
    said = [
        "Each agent below has its log, and what the simulator predicts of it from a logged observation on: under the "
        "actions that were logged, under random ones, and under the constant action whose predicted reward is highest."
    ]
    if simulator.noise is None:
        said.append(
            f"Bands are what the members' spread makes of {COVERAGE:.0%}; they say nothing of the noise of "
            f"transitions, which was not measured. `persim calibrate {simulator.card.name}` does that."
        )
    elif simulator.band_scale is None:
        said.append(f"Bands of {COVERAGE:.0%} are as wide as rollouts say; that was not checked on data held out.")
    else:
        said.append(f"Each value lies in its band with a probability of {COVERAGE:.0%}, as measured on data held out.")
    said += [
        "It was trained on these logs, so that predictions under the logged actions are no test; the errors above are.",
        "What comes from outside is taken as it was logged." * bool(simulator.spec.layout.exogenous),
        "Actions of another kind than the logged ones may lead to where nothing was logged. Bands can be too narrow "
        "there.",
    ]
    return section("The agents", paragraphs(*said), "agents")
