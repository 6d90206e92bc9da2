"""Compares candidate policies for agents, without the real agents."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from persim_gym.comparison.calibration import calibrated
from persim_gym.comparison.candidates import LOGGED, Candidate, Given, find_candidates
from persim_gym.comparison.familiarity import familiarity_of
from persim_gym.comparison.fitted_q import FittedQ
from persim_gym.comparison.intervals import Estimate, Widening, beats, best_probabilities, estimate
from persim_gym.comparison.results import ComparedPolicy, Comparison, unfamiliar_note
from persim_gym.comparison.rollouts import Episodes, Rows, draw_rows, first_observations, roll_out
from persim_gym.comparison.setting import AUTO, Sampling, Setting, disturbance_of
from persim_gym.simulator.registry import DEFAULT_SIMULATOR
from persim_gym.simulator.simulator import Simulator

NO_BASELINE = "none"
_STARTS_OF_Q = 200  # First observations that fitted Q is averaged over.


def compare(
    simulator: str | Path | Simulator = DEFAULT_SIMULATOR,
    policies: Mapping[str, Given] | None = None,
    agents: Sequence[int | str] = range(5),
    *,
    baseline: str = LOGGED,
    fitted_q: bool = True,
    trust: bool = False,
    progress: bool = False,
    **sampling: int | float | str,
) -> Comparison:
    """Rolls candidate policies out in the simulator of each agent, under draws of what the simulator does not know.

    Args:
        simulator: Name or path of a simulator, or one that is on disk.
        policies: What each candidate is, by name: an object with Stable-Baselines3's `predict`, or what
            `persim_gym.comparison.candidates.WAYS` lists.
        agents: Numbers or names.
        baseline: Candidate that others are held against, one of `policies`; "logged" for the cloned behaviour of the
            agent's own log, which then is a candidate too; "none" for no one.
        fitted_q: Whether to add fitted Q evaluation, where the simulator's data are here.
        trust: Whether to import the task of a simulator that is not yours, and to read files that hold pickles.
        progress: Whether to show a progress bar.
        **sampling: Fields of `persim_gym.comparison.setting.Sampling`: draws, episodes, steps, discount, seed.

    Returns:
        Rows, a table, and what the numbers rest on. The same seed gives the same.

    Raises:
        UnknownSimulatorError: If there is no such simulator.
        ValueError: If an agent is unknown or, for "logged", has no data; or a candidate does not exist, is of other
            spaces or is not trusted; or the simulator lacks what the noise takes.
    """
    chosen = Sampling(**sampling)  # type: ignore[arg-type]
    chosen.check()
    setting = Setting.of(simulator, trust)
    given = dict(policies or {})
    if baseline == LOGGED and LOGGED not in given:
        given[LOGGED] = LOGGED
    if baseline not in (NO_BASELINE, *given):
        raise ValueError(f"the baseline {baseline!r} is none of the candidates {', '.join(given)}; give one, or none")
    if not given:
        raise ValueError("there is nothing to compare; give at least one policy: --policy name=PATH")
    candidates, numbers = find_candidates(given, setting, trust), setting.numbers(agents)
    disturbance_of(setting, setting.noise(chosen.noise))
    for agent in numbers:  # A mistake shows before anything runs for long.
        for candidate in candidates:
            candidate.acting(setting, agent, chosen.seed)
    widening, notes = _known(setting, chosen)
    rows = list[ComparedPolicy]()
    with_q = fitted_q and _has_data(setting)
    bar: tqdm[NoReturn] = tqdm(
        total=len(numbers) * len(candidates), desc="candidates", disable=not progress, leave=False
    )
    with bar:
        for agent in numbers:
            rows += _of_agent(setting, candidates, agent, chosen, widening, baseline, with_q, bar)
    notes += unfamiliar_note(rows)
    return Comparison(tuple(rows), "" if baseline == NO_BASELINE else baseline, tuple(notes))


def _of_agent(
    setting: Setting,
    candidates: Sequence[Candidate],
    agent: int,
    sampling: Sampling,
    widening: Widening,
    baseline: str,
    fitted_q: bool,
    bar: "tqdm[NoReturn]",
) -> list[ComparedPolicy]:
    """Rows of one agent, the best first."""
    rows = draw_rows(setting, [agent], sampling, sampling.episodes)
    _check(setting, candidates, agent, rows, sampling)
    found = dict[str, Episodes]()
    values, unlike = dict[str, float](), dict[str, float]()
    familiar = familiarity_of(setting) if _has_data(setting) else None
    q = FittedQ(setting, agent, sampling) if fitted_q else None
    for candidate in candidates:
        acting = candidate.acting(setting, agent, sampling.seed)
        found[candidate.name], visited = roll_out(acting, rows, agent, sampling)
        if familiar is not None:
            unlike[candidate.name] = familiar.unlike(visited)
        if q is not None:
            starts = first_observations(rows, agent, sampling)[:_STARTS_OF_Q]
            values[candidate.name] = q.value(candidate.acting(setting, agent, sampling.seed), starts)
        bar.update()
    shape = (sampling.draws, sampling.episodes)
    estimates = {name: estimate(each.earned.reshape(shape), widening) for name, each in found.items()}
    likely = best_probabilities(estimates)
    compared = [
        ComparedPolicy(
            agent=setting.model.agent_name(agent),
            candidate=name,
            mean=each.mean,
            low=each.low,
            high=each.high,
            best=likely[name],
            beats=_beats(estimates, name, baseline),
            fitted_q=values.get(name),
            steps=float(found[name].steps.mean()),
            lost=float(found[name].lost.mean()),
            unlike=unlike.get(name),
            objective=sampling.objective,
        )
        for name, each in estimates.items()
    ]
    return sorted(compared, key=lambda row: -row.mean)


def _check(setting: Setting, candidates: Sequence[Candidate], agent: int, rows: Rows, sampling: Sampling) -> None:
    """Lets each candidate act once, so that one of other spaces shows before others have run for long."""
    starts = first_observations(rows, agent, sampling)[:2]
    for candidate in candidates:
        candidate.acting(setting, agent, sampling.seed).begin(starts)


def _beats(estimates: Mapping[str, Estimate], name: str, baseline: str) -> float | None:
    if baseline == NO_BASELINE or name == baseline:
        return None
    return beats(estimates[name], estimates[baseline])


def _has_data(setting: Setting) -> bool:
    try:
        return len(setting.data) > 0
    except ValueError:
        return False


def _known(setting: Setting, sampling: Sampling) -> tuple[Widening, list[str]]:
    """How wide intervals are, and what the numbers rest on."""
    model, widening = setting.model, Widening()
    believed = isinstance(model, Simulator) and model.beliefs is not None
    what = "member and latent factor" if believed else "a member"
    notes = [f"{sampling.draws} draws of {what}, {sampling.episodes} episodes each; no real agent acted"]
    if not believed:
        notes.append("the model holds no beliefs about its agents: intervals show how far its members differ")
    notes.append(_noise_note(setting, sampling))
    if not _has_data(setting):
        notes.append("the simulator's data are not here: intervals are not calibrated, and there is no fitted Q")
    else:
        widening = calibrated(setting, sampling)
        replayed = f"by {widening.agents} replayed logs"
        notes.append(f"intervals are {widening.factor:.3g} times as wide as draws lie apart, {replayed}")
    if setting.domain is None:
        notes.append("the data are of no domain here: how right these returns are cannot be measured in a true one")
    return widening, notes


def _noise_note(setting: Setting, sampling: Sampling) -> str:
    """Which noise there is, and what could be done where there is none unasked."""
    kind, model = setting.noise(sampling.noise), setting.model
    if kind == "gaussian":
        return "noise is Gaussian, as measured on logged transitions that the simulator was not trained on"
    if kind == "residual":
        return "noise is what the simulator got wrong on the logged transitions nearest by"
    if sampling.noise == AUTO and isinstance(model, Simulator):
        return f"no noise: `persim calibrate {model.card.name}` measures it"
    return "no noise"
