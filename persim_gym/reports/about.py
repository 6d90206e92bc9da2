"""What a simulator is made of, how far it errs, and how far it can be trusted."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs import DOMAINS
from persim_gym.evaluation.figures import covariate_label
from persim_gym.evaluation.horizons import BY_HORIZON, NO_CHANGE, SIMULATOR, HorizonErrors, HorizonReport
from persim_gym.evaluation.prediction import PredictionError, format_error
from persim_gym.evaluation.traces import COVERAGE, TRACES, Trace, read_traces
from persim_gym.reports.charts import LINE_COLORS, Line, chart, legend, panels
from persim_gym.reports.markup import facts, fold, paragraphs, table, unknown
from persim_gym.simulator.diagnostics.trust import Trust
from persim_gym.simulator.model_card import card_rows, four_digits
from persim_gym.simulator.simulator import Simulator

MAX_PANELS = 6
"""Observations that are drawn; others are in tables."""
MAX_NAMED_LINES = 5
"""Agents that have a line each; of more, their mean and range are drawn."""
DEVIATIONS = "standard deviations of the logged observations"


def observed_names(simulator: Simulator) -> list[str]:
    """What observations are called, with their units, [D]: as the data have it, else as the domain does."""
    names, domain = simulator.spec.predicted_names[: simulator.model.config.obs_dim], DOMAINS.get(simulator.card.domain)
    if simulator.labels.observations or domain is None:
        return names
    return [*domain.observation_names, *names[len(domain.observation_names) :]][: len(names)]


def data_part(simulator: Simulator) -> str:
    """What the simulator is made of, as its card says."""
    return facts(card_rows(simulator.card.to_json()))


def error_part(simulator: Simulator, errors: Mapping[int, PredictionError]) -> str:
    """Errors by horizon: against the true environment, on what was held out, and on what was trained on.

    Args:
        simulator: The simulator.
        errors: Of each agent against its true environment; empty where there is none.
    """
    card, parts = simulator.card, list[str]()
    if errors:
        parts.append(_true_errors(simulator, errors))
    elif card.domain:
        parts.append(unknown("None of these agents is of the domain's population: they have no true environment here."))
    if BY_HORIZON in card.error:
        parts.append(_held_out_errors(simulator, HorizonReport.from_json(card.error[BY_HORIZON])))
    elif not card.domain:
        parts.append(
            unknown(
                "Errors on data that it has not seen are not known. There is no true environment of these data here, "
                "and nothing was held out when it was trained; `persim train` without --no-holdout measures that, of "
                "enough data."
            )
        )
    parts.append(_logged_errors(simulator))
    return "".join(parts)


def _true_errors(simulator: Simulator, errors: Mapping[int, PredictionError]) -> str:
    """A picture by horizon and a table by agent."""
    unit = simulator.model.logged_std.double().cpu().numpy()
    each = {simulator.agent_name(n): _by_step(error.true, error.predicted, unit) for n, error in errors.items()}
    idle = np.mean([_by_step(e.true, np.broadcast_to(e.true[:, :1], e.true.shape), unit) for e in errors.values()], 0)
    steps = np.arange(1, len(idle) + 1, dtype=np.float64)
    nothing = Line(NO_CHANGE, steps, idle, 0)
    if len(each) <= MAX_NAMED_LINES:
        lines = [
            Line(f"agent {name}", steps, rows, 1 + i % (LINE_COLORS - 1)) for i, (name, rows) in enumerate(each.items())
        ]
    else:
        rows = np.stack(list(each.values()))
        label = f"mean and range of {len(each)} agents"
        lines = [Line(label, steps, rows.mean(0), 1, rows.min(0), rows.max(0))]
    lines.append(nothing)
    domain = DOMAINS[simulator.card.domain]
    body = [
        (simulator.agent_name(n), covariate_label(domain, n), format_error(e.mean_rmse), f"{e.median_r2:.3f}")
        for n, e in errors.items()
    ]
    episodes = max(len(error.rmse) for error in errors.values())
    return (
        paragraphs(
            f"Against the true environment, which exists because this is one of persim_gym's domains: {episodes} "
            f"episodes an agent, under a policy that the simulator has not seen, predicted for {len(steps)} steps "
            "without correction. Lower is better."
        )
        + legend(lines)
        + panels([chart(f"Error by horizon, in {DEVIATIONS}", lines, "step without correction", log=True)])
        + table(("agent", "covariates, which are hidden from it", "mean RMSE", "median R²"), body, words=2)
    )


def _by_step(true: NDArray[np.float64], guess: NDArray[np.float64], unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root mean squared error after each step, over episodes that still run and dimensions in their units, [T]."""
    scaled = np.square((true - guess)[:, 1:, : len(unit)] / unit)
    there = np.isfinite(true[:, 1:, : len(unit)])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, scaled, 0.0).sum(axis=(0, 2)) / there.sum(axis=(0, 2))
        error: NDArray[np.float64] = np.sqrt(mean)
    return error


def _held_out_errors(simulator: Simulator, report: HorizonReport) -> str:
    """A picture for each part that was held out, tables by column, and the trajectories."""
    said = [
        paragraphs("On data that were held out: measured on a simulator of the same recipe that had not seen them.")
    ]
    charts, lines = list[str](), list[Line]()
    for what, errors in report.parts.items():
        steps = np.array(errors.steps, dtype=np.float64)
        own = [
            Line(kind, steps, _numbers(means), 1 if kind == SIMULATOR else 2 + i, dots=True)
            for i, (kind, means) in enumerate(errors.overall.items(), -1)
        ]
        lines += own
        title = f"{what[0].upper()}{what[1:]} ({errors.agents:,} agents)"
        charts.append(chart(title, own, "steps without correction", log=True, log_x=True))
    said += [legend(lines), panels(charts), paragraphs(f"Root mean squared errors over all columns, in {DEVIATIONS}.")]
    said += [paragraphs(*map(_sentence, report.verdicts)), unknown(*map(_sentence, report.said))]
    said += [fold(f"Each column: {what}", _columns_table(report, errors)) for what, errors in report.parts.items()]
    if (simulator.folder / TRACES).is_file():
        said += [_trace(trace) for trace in read_traces(simulator.folder / TRACES)]
    return "".join(said)


def _sentence(words: str) -> str:
    """A line of a report as a sentence."""
    return f"{words[0].upper()}{words[1:]}."


def _columns_table(report: HorizonReport, errors: HorizonErrors) -> str:
    """Errors of each column, in its own units."""
    rows = [
        (name, step, *(_cell(values[i][d]) for values in errors.rmse.values()))
        for d, name in enumerate(report.columns)
        for i, step in enumerate(errors.steps)
    ]
    return table(("column", "steps", *errors.rmse), rows)


def _cell(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _numbers(values: tuple[float | None, ...]) -> NDArray[np.float64]:
    """Numbers, NaN for None."""
    return np.array([np.nan if value is None else value for value in values])


def _trace(trace: Trace) -> str:
    """A trajectory that was held out, beside what was predicted of it."""
    steps = np.arange(1, len(trace.logged) + 1, dtype=np.float64)
    charts, lines = list[str](), list[Line]()
    for d, name in enumerate(trace.columns[:MAX_PANELS]):
        lines = [
            Line("logged, and held out", steps, trace.logged[:, d], 0),
            Line("predicted", steps, trace.predicted[:, d], 1, trace.low[:, d], trace.high[:, d]),
        ]
        charts.append(chart(name, lines, "step without correction"))
    said = (
        f"The agent with the {trace.which} error, {trace.agent}: what was held out of its log, and what was predicted, "
        f"with a band of {COVERAGE:.0%}."
    )
    return paragraphs(said) + legend(lines) + panels(charts)


def _logged_errors(simulator: Simulator) -> str:
    """The error profile of the card, on what was trained on."""
    error = simulator.card.error
    if not error:
        return unknown("Its card holds no errors on the data that it was trained on.")
    pairs = zip(error["columns"], error["one_step_rmse"], error["one_step_r2"], strict=True)
    one = table(("one step ahead", "RMSE", "R²"), [(n, four_digits(a), four_digits(b)) for n, a, b in pairs])
    far = zip(error["steps"], error["open_loop"], strict=True)
    many = table(("steps without correction", f"RMSE, in {DEVIATIONS}"), [(n, four_digits(e)) for n, e in far])
    return fold(f"On its {error['data']}", one + many)


def trust_part(simulator: Simulator) -> str:
    """What is promised, and how often it was kept."""
    name = simulator.card.name
    if not simulator.card.trust:
        return unknown(
            f"Not measured: for how many steps predictions can be trusted, and how often that is kept, is not known. "
            f"`persim calibrate {name}` measures it, from 100 agents with data on."
        )
    trust = Trust.from_json(simulator.card.trust)
    strangers = trust.stranger_coverage
    rows = {
        "promise": f"within the trust horizon the error stays below {trust.bound:g} {DEVIATIONS}, with a probability "
        f"of {trust.level:.0%}"
        if np.isfinite(trust.scale)
        else "none: there were too few agents, or they err too much",
        "kept": f"by {trust.coverage:.1%} of the trajectories of {trust.agents} agents that were not trained on",
        "kept for strangers": ""
        if strangers is None
        else f"by {strangers:.1%} of the same, where nothing was known of the agents",
        "error below the scaled spread": f"on {trust.band_coverage:.1%}",
        "without a look at the spread": f"{trust.horizon} of {trust.steps} steps",
    }
    steps = np.array([float(step) for step in trust.profile])
    middle, high = (_numbers(tuple(pair[i] for pair in trust.profile.values())) for i in (0, 1))
    spread = _numbers(tuple(trust.spread_profile.get(step) for step in trust.profile))
    lines = [
        Line("90 % of errors are below", steps, high, 2, dots=True),
        Line("median error", steps, middle, 1, dots=True),
        Line("median spread of members", steps, spread, 3, dots=True),
        Line("the bound", steps, np.full(len(steps), trust.bound), 0),
    ]
    picture = panels([chart(f"Error by step, in {DEVIATIONS}", lines, "step without correction", log=True, log_x=True)])
    caution = (
        "The promise is for agents of this population under the policy that logged the data, on average over them. It "
        "says nothing of other policies."
    )
    return facts(rows) + legend(lines) + picture + paragraphs(caution)
