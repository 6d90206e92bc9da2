"""HeteroPatients-v0: the physics beside simglucose's, errors of learned simulators, and insulin by planning in them.

`compare` needs simglucose (`pip install --no-deps simglucose==0.2.11`, pandas, and the gym that it imports), the others
do not. A simulation study, and no medical advice.

    OMP_NUM_THREADS=1 python benchmarks/patients.py compare
    OMP_NUM_THREADS=1 python benchmarks/patients.py errors
    OMP_NUM_THREADS=1 python benchmarks/patients.py bands
    OMP_NUM_THREADS=1 python benchmarks/patients.py closed-loop
    python benchmarks/patients.py figure
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from persim_gym.envs.patients.chance import STEPS_PER_DAY
from persim_gym.envs.patients.domain import DOMAIN, risk
from persim_gym.envs.patients.kernel import advance
from persim_gym.envs.patients.parameters import GLUCOSE_VOLUME, PARAMETERS, Patients, patients
from persim_gym.envs.patients.physics import (
    LOWEST,
    SMOOTHING_MINUTES,
    STEP_MINUTES,
    glucose,
    insulin_rate,
)
from persim_gym.envs.patients.rule import NONE, basal_bolus
from persim_gym.task import Task

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "tests" / "envs" / "patients" / "simglucose.json"
RESULTS = ROOT / "results" / "patients.csv"
COLUMNS = ("study", "dataset", "method", "minutes", "metric", "agents", "value")

Predict = Callable[[int, np.ndarray, np.ndarray], np.ndarray]
"""Maps (agent, obs [B, D] or [M, B, D], action [B, 1]) to the next observations."""


# --- compare: the 30 patients of simglucose ---------------------------------------------------------------------

DAY = 24 * 60  # min
MEALS = {7 * 60: 45.0, 10 * 60: 15.0, 12 * 60 + 20: 70.0, 18 * 60 + 30: 80.0}  # minute of the day, g
LARGEST_DIFFERENCE, SMALLEST_RATIO = 0.1, 50.0  # mg/dL; times simglucose's speed
KEPT = ("adolescent#003", "adult#001", "adult#007", "child#009")
KEPT_EVERY = 15  # min


def day_of(their: Any, ratio: float) -> np.ndarray:
    """Insulin in each minute, U/min, [1440]: basal, and a bolus with each meal."""
    insulin = np.full(DAY, their._params.u2ss * their._params.BW / 6000.0)
    for minute, grams in MEALS.items():
        insulin[minute] += grams / ratio
    return insulin


def simulate(params: np.ndarray, body: np.ndarray, volume: np.ndarray, insulin: np.ndarray) -> np.ndarray:
    """Glucose under the skin by our equations, mg/dL, [B, 1441]."""
    body, meal, found = body.copy(), np.zeros((len(body), 4)), [body[:, 12] / volume]
    for minute in range(DAY):
        meal[:, 0] += MEALS.get(minute, 0.0)
        advance(params, body, meal, np.ascontiguousarray(insulin[:, minute]))
        found.append(body[:, 12] / volume)
    return np.stack(found, axis=1)


def compare(options: argparse.Namespace) -> None:
    """Prints how far we are from simglucose, and how much faster; writes the reference of the tests."""
    import pandas
    import simglucose
    from simglucose.patient.t1dpatient import Action, T1DPatient

    quest = pandas.read_csv(Path(simglucose.__file__).parent / "params" / "Quest.csv").set_index("Name")
    theirs = [T1DPatient.withID(number) for number in range(1, 31)]
    theirs = [patient for patient in theirs if patient.name in (options.only or [each.name for each in theirs])]
    params = np.array([[float(p._params[name]) for name in PARAMETERS] for p in theirs])
    body = np.array([p.init_state for p in theirs], dtype=np.float64)
    volume = np.array([p._params.Vg for p in theirs])
    insulin = np.array([day_of(p, quest.CR[p.name]) for p in theirs])
    simulate(params, body, volume, insulin)  # compiles
    started = time.perf_counter()
    ours = simulate(params, body, volume, insulin)
    our_seconds = (time.perf_counter() - started) / (len(theirs) * DAY)
    worst, their_seconds, kept = 0.0, [], {}
    for row, patient in enumerate(theirs):
        started, found = time.perf_counter(), [patient.observation.Gsub]
        for minute in range(DAY):
            patient.step(Action(CHO=MEALS.get(minute, 0.0), insulin=insulin[row, minute]))
            found.append(patient.observation.Gsub)
        their_seconds.append((time.perf_counter() - started) / DAY)
        difference = np.abs(np.array(found) - ours[row]).max()
        worst = max(worst, difference)
        print(f"{patient.name:16} largest difference {difference:.4f} mg/dL of {min(found):.0f} to {max(found):.0f}")
        if patient.name in KEPT:
            kept[patient.name] = {
                "parameters": dict(zip(PARAMETERS, params[row].tolist(), strict=True)),
                "volume": float(volume[row]),
                "body": body[row].tolist(),
                "basal": float(insulin[row, 0]),
                "ratio": float(quest.CR[patient.name]),
                "glucose": np.round(found[::KEPT_EVERY], 4).tolist(),
            }
    ratio = float(np.mean(their_seconds)) / our_seconds
    print(f"largest difference {worst:.4f} mg/dL (bar {LARGEST_DIFFERENCE}), speed ratio {ratio:.0f} on one core")
    print(f"a minute of a patient: simglucose {np.mean(their_seconds) * 1e3:.2f} ms, here {our_seconds * 1e6:.2f} µs")
    if not options.only:
        write_reference(kept)
    if worst > LARGEST_DIFFERENCE or ratio < SMALLEST_RATIO:
        sys.exit("outside the bars")


def write_reference(kept: dict[str, Any]) -> None:
    """Writes what tests compare with: days of a few patients as simglucose simulates them."""
    source = "simglucose 0.2.11 (MIT licence, copyright 2017 Jinyu Xie), benchmarks/patients.py compare"
    stored = {"source": source, "every": KEPT_EVERY, "meals": {str(k): v for k, v in MEALS.items()}, "patients": kept}
    REFERENCE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


# --- errors: a further day under the usual dosing ---------------------------------------------------------------

AHEAD = {30: 2, 60: 4, 120: 8, 240: 16}  # minutes, steps
FIRST_HOUR, LAST_HOUR = 4, 19  # of the hours from which predictions begin
FURTHER_DAY = 77  # seed
READING, TREND, KNOWN = 0, 1, slice(2, None)  # columns of the observation
ANNOUNCED = 6  # column of the carbohydrates of the meal that begins
RIDGE = 10.0  # of an agent's own linear model
MEMBERS = 3  # of an ensemble; the recipe's five take longer


@dataclass(frozen=True)
class Days:
    """One day of each agent.

    Attributes:
        obs: float32 [N, 97, D].
        action: float32 [N, 96, 1].
        glucose: What the sensor would read without noise, mg/dL, [N, 97].
        lived: Steps before the end of the episode, [N].
    """

    obs: np.ndarray
    action: np.ndarray
    glucose: np.ndarray
    lived: np.ndarray


def live(policy: Any, agents: Sequence[int], seed: int, steps: int = STEPS_PER_DAY) -> Days:
    """Lets a policy dose the insulin of agents, all at once, from midnight on."""
    columns = {c.name: DOMAIN.population[list(agents), i] for i, c in enumerate(DOMAIN.covariates)}
    physics, state = DOMAIN.physics(**columns), DOMAIN.initial_state(np.random.default_rng(seed), len(agents))
    return lived_on(policy, None, physics, state, steps)


def lived_on(policy: Any, memory: Any, physics: Any, state: np.ndarray, steps: int) -> Days:
    """What a policy does from a state on, [N, S]."""
    obs, true, taken = [DOMAIN.observe(state).astype(np.float32)], [glucose(state)], []
    for _ in range(steps):
        action, memory = policy.predict(obs[-1], memory)
        state = physics(state, action)
        obs.append(DOMAIN.observe(state).astype(np.float32))
        true.append(glucose(state))
        taken.append(action)
    seen = np.stack(obs, axis=1)
    ended = DOMAIN.task.terminated(seen)
    lived = np.where(ended.any(axis=1), ended.argmax(axis=1), steps)
    return Days(seen, np.stack(taken, axis=1), np.stack(true, axis=1), lived)


def usual(agents: Sequence[int], seed: int, rule: Any = None) -> Any:
    """The dosing rule of agents as a policy; theirs with errors, or `rule`."""
    from persim_gym.datasets.behavior.rules import RulePolicy

    columns = {c.name: DOMAIN.population[list(agents), i] for i, c in enumerate(DOMAIN.covariates)}
    return RulePolicy(rule or DOMAIN.rule, columns, np.random.default_rng(seed))


def errors_ahead(predict: Predict, days: Days, agents: Sequence[int]) -> dict[int, float]:
    """RMSE of the sensor's reading, mg/dL, by minutes ahead: insulin and meals on the way are given.

    What is a known function of insulin, meals and the clock is put right after each step, the trend from the readings.
    """
    squares: dict[int, list[float]] = {minutes: [] for minutes in AHEAD}
    starts, furthest = np.arange(FIRST_HOUR, LAST_HOUR + 1) * 4, max(AHEAD.values())
    for agent in agents:
        begins = starts[starts + furthest <= days.lived[agent]]
        for step, reading in enumerate(ahead(predict, days, agent, begins, furthest), 1):
            for minutes in (minutes for minutes, steps in AHEAD.items() if steps == step):
                squares[minutes] += list((reading - days.obs[agent, begins + step, READING]) ** 2)
    return {minutes: float(np.sqrt(np.mean(values))) for minutes, values in squares.items()}


def ahead(predict: Predict, days: Days, agent: int, begins: np.ndarray, steps: int) -> Iterator[np.ndarray]:
    """Readings that are predicted for each of the next steps from each of several, [begins]."""
    left = np.exp(-STEP_MINUTES / SMOOTHING_MINUTES)
    obs, action = days.obs[agent].astype(np.float64), days.action[agent]
    current, smooth = obs[begins], obs[begins, READING] - obs[begins, TREND]
    for step in range(steps if len(begins) else 0):
        following = predict(agent, current, action[begins + step])
        smooth = smooth * left + current[..., READING] * (1.0 - left)
        following[..., KNOWN] = obs[begins + step + 1, KNOWN]
        following[..., TREND] = following[..., READING] - smooth
        current = following
        yield current[..., READING].reshape(-1, len(begins)).mean(axis=0)


def nothing(agent: int, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Predicts that the reading stays."""
    return obs.copy()


def own_lines(data: Any, ridge: float) -> Predict:
    """A linear model of each agent's change of reading, of its own data alone (ARX on the same features)."""
    lines = {}
    for agent in range(data.n_agents):
        own = data.agent == agent
        x = _features(data.obs[own].astype(np.float64), data.action[own])
        mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-9
        x = (x - mean) / scale
        y = (data.next_obs[own, READING] - data.obs[own, READING]).astype(np.float64)
        weight = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        lines[agent] = (mean, scale, weight, y.mean())

    def predict(agent: int, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        mean, scale, weight, bias = lines[agent]
        following = obs.copy()
        following[:, READING] += (_features(obs, action) - mean) / scale @ weight + bias
        return following

    return predict


def _features(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    return np.concatenate([obs, insulin_rate(action)], axis=-1)


def learned(simulator: Any, agent_of: Callable[[int], int] = int) -> Predict:
    """A simulator's predictions, each member by itself."""
    bound: dict[int, Any] = {}

    def predict(agent: int, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
        number = agent_of(agent)
        dynamics = bound.setdefault(number, simulator.dynamics(number))
        if obs.ndim == 2:
            obs = np.broadcast_to(obs, (dynamics.members, *obs.shape))
        return np.array(dynamics(obs.astype(np.float32), action), dtype=np.float64)

    return predict


def simulators(options: argparse.Namespace, dataset: str) -> tuple[Any, Any, Any]:
    """The logged data, a simulator of all agents, and one that takes them for one person; trained where missing.

    They are not asked to foresee meals: after a step none is announced.
    """
    from persim_gym import train
    from persim_gym.datasets import load
    from persim_gym.workflows.training_setup import recipe_for

    data, recipe = load(f"persim/patients/{dataset}", progress=False), recipe_for(f"patients/{dataset}")
    following = data.next_obs.copy()
    following[:, ANNOUNCED] = 0.0
    many = replace(data, next_obs=following)
    one = replace(many, agent=np.zeros_like(data.agent), n_agents=1)
    named = {"recipe": replace(recipe, members=MEMBERS), "seed": options.seed, "domain": "patients", "progress": False}
    both = ((many, dataset), (one, f"{dataset}-one"))
    return data, *(train(each, name=f"patients/{name}", out=options.models / name, **named) for each, name in both)


def errors(options: argparse.Namespace) -> None:
    """Trains two simulators on each dataset and writes all errors ahead."""
    agents = range(options.agents)
    days = live(usual(agents, FURTHER_DAY), agents, FURTHER_DAY)
    rows = []

    def add(dataset: str, method: str, predict: Predict) -> None:
        found = errors_ahead(predict, days, agents)
        print(f"{dataset:16} {method:32}", " ".join(f"{value:6.1f}" for value in found.values()), "mg/dL", flush=True)
        named = {"dataset": dataset, "method": method, "metric": "rmse (mg/dL)"}
        rows.extend({**named, "minutes": minutes, "value": f"{value:.4g}"} for minutes, value in found.items())

    add("", "nothing changes", nothing)
    for dataset in options.datasets:
        data, personal, common = simulators(options, dataset)
        add(dataset, "each agent's own linear model", own_lines(data, RIDGE))
        add(dataset, "not personalized", learned(common, lambda agent: 0))
        add(dataset, "personalized", learned(personal))
    keep_rows("errors", rows, options)


def keep_rows(study: str, rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> None:
    """Puts the rows of a study in place of its former ones in `results/patients.csv`."""
    others = []
    if options.out.is_file():
        with options.out.open(newline="", encoding="utf-8") as file:
            others = [row for row in csv.DictReader(file) if row["study"] != study]
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(others + [{"study": study, "agents": options.agents, **row} for row in rows])


# --- bands: how often the sensor reads inside of them -----------------------------------------------------------

BANDS_OF = "pure-eps-20-v0"
TESTED, CALIBRATED = range(100), range(400, 500)  # Agents that training does not see.
COVERAGE = 0.9
RANDOM_DOSES = 0.2  # As the dataset was logged.
BAND_EVERY = 8  # Steps between the beginnings of predictions.


def bands(options: argparse.Namespace) -> None:
    """Trains without 200 people, sets the width of bands by 100 of them, and counts readings inside for the others."""
    from persim_gym.datasets import load
    from persim_gym.datasets.collect import EpsilonGreedy
    from persim_gym.simulator.diagnostics.measure_noise import measured_noise

    small, told = small_simulator(options)
    data = load(f"persim/patients/{BANDS_OF}", progress=False)
    first_day = np.concatenate([np.arange(n) for n in lengths(data)]) < STEPS_PER_DAY
    calibrating = small.personalize(of_agents(told.select(first_day), CALIBRATED))
    rest = of_agents(data.select(~first_day), CALIBRATED)
    rest = replace(rest, agent=rest.agent + small.n_agents, n_agents=calibrating.n_agents)
    noise, scale = measured_noise(
        calibrating.model, calibrating.known_beliefs(), rest, given=range(KNOWN.start, data.obs_dim), steps=32
    )
    simulator = replace(small, noise=noise, band_scale=scale)
    newer = simulator.personalize(of_agents(told.select(first_day), TESTED))
    agents = list(range(TESTED.stop, CALIBRATED.start))[: options.agents]
    usually = usual(agents, FURTHER_DAY)
    doses = EpsilonGreedy(usually, DOMAIN.action_space, RANDOM_DOSES, np.random.default_rng(FURTHER_DAY))
    further = live(doses, agents, FURTHER_DAY)
    late = of_agents(data.select(~first_day), list(TESTED)[: options.agents])
    second = {int(agent): late.select(late.agent == agent) for agent in np.unique(late.agent)}
    days = {
        "known people, a further day": [
            (n, further.obs[n, : further.lived[n] + 1], further.action[n]) for n in range(len(agents))
        ],
        "new people, the day after 24 h of log": [
            (small.n_agents + n, np.concatenate([day.obs, day.next_obs[-1:]]), day.action) for n, day in second.items()
        ],
    }
    rows = []
    for people, of in days.items():
        model = newer if people.startswith("new") else simulator
        covered, width = covered_readings(model, of)
        print(f"{people:40}", *(f"{m} min {covered[m]:5.1%} ±{width[m]:3.0f}" for m in AHEAD), flush=True)
        named = {"dataset": BANDS_OF, "method": people}
        for minutes in AHEAD:
            for metric, value in (
                (f"readings in the {COVERAGE:.0%} band", covered[minutes]),
                ("half of the band (mg/dL)", width[minutes]),
            ):
                rows.append({**named, "minutes": minutes, "metric": metric, "value": f"{value:.4g}"})
    keep_rows("bands", rows, options)


def small_simulator(options: argparse.Namespace) -> tuple[Any, Any]:
    """A simulator of the people between `TESTED` and `CALIBRATED`, trained where missing, and the data of all.

    It is not asked to foresee meals, as those of `simulators`.
    """
    from persim_gym import train
    from persim_gym.datasets import load
    from persim_gym.workflows.training_setup import recipe_for

    data = load(f"persim/patients/{BANDS_OF}", progress=False)
    following = data.next_obs.copy()
    following[:, ANNOUNCED] = 0.0
    told, trained = replace(data, next_obs=following), range(TESTED.stop, CALIBRATED.start)
    simulator = train(
        replace(of_agents(told, trained), n_agents=len(trained)),
        name=f"patients/{BANDS_OF}-bands",
        out=options.models / f"{BANDS_OF}-bands",
        recipe=replace(recipe_for(f"patients/{BANDS_OF}"), members=MEMBERS),
        seed=options.seed,
        domain="patients",
        progress=False,
    )
    return simulator, told


def of_agents(data: Any, agents: Sequence[int]) -> Any:
    """The transitions of some agents, numbered from 0."""
    some = data.select(np.isin(data.agent, agents))
    return replace(some, agent=np.searchsorted(agents, some.agent))


def lengths(data: Any) -> np.ndarray:
    """Length of each episode of data in order."""
    return np.diff(np.append(np.flatnonzero(np.diff(data.trajectory, prepend=-1)), len(data.trajectory)))


def covered_readings(
    simulator: Any, days: Sequence[tuple[int, np.ndarray, np.ndarray]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Share of readings inside the band, and the mean half of its width, mg/dL, by minutes ahead.

    Args:
        simulator: With noise and a width of bands.
        days: Agent, observations [T + 1, D] and actions [T, 1] of each.
    """
    from persim_gym.simulator.diagnostics.bands import prediction_bands

    inside: dict[int, list[float]] = {minutes: [] for minutes in AHEAD}
    half: dict[int, list[float]] = {minutes: [] for minutes in AHEAD}
    furthest = max(AHEAD.values())
    for agent, obs, action in days:
        for begin in range(4 * FIRST_HOUR, min(4 * LAST_HOUR, len(obs) - 1 - furthest) + 1, BAND_EVERY):
            ahead = obs[begin + 1 : begin + 1 + furthest]
            known = ahead.copy()
            known[:, : KNOWN.start] = np.nan
            given = action[begin : begin + furthest]
            found = prediction_bands(simulator, agent, obs[begin], given, coverage=COVERAGE, known=known)
            for minutes, step in AHEAD.items():
                low, high = found.lower[step - 1, READING], found.upper[step - 1, READING]
                inside[minutes].append(low <= ahead[step - 1, READING] <= high)
                half[minutes].append((high - low) / 2)
    return ({m: float(np.mean(v)) for m, v in values.items()} for values in (inside, half))  # type: ignore[return-value]


# --- closed loop: insulin by planning ---------------------------------------------------------------------------

IN_RANGE, VERY_LOW = (70.0, 180.0), 54.0  # mg/dL
ANOTHER_DAY = 79  # seed; planning was set up on that of 78
SAFEST = 112.5  # mg/dL, where Kovatchev's risk is 0


def control(days: Days) -> dict[str, float]:
    """Shares of the day in range and below, in percent, and people who did not live through it; means over agents."""
    steps = days.glucose.shape[1] - 1
    true = np.where(np.arange(1, steps + 1) <= days.lived[:, None], days.glucose[:, 1:], 0.0)
    inside = (true >= IN_RANGE[0]) & (true <= IN_RANGE[1])
    return {
        "time in 70-180 mg/dL (%)": 100.0 * float(inside.mean()),
        "time below 70 mg/dL (%)": 100.0 * float((true < IN_RANGE[0]).mean()),
        "time below 54 mg/dL (%)": 100.0 * float((true < VERY_LOW).mean()),
        "mean glucose (mg/dL)": float(days.glucose[:, 1:].mean()),
        "ended early": float((days.lived < steps).sum()),
    }


def careful(obs: Any, action: Any, next_obs: Any) -> Any:
    """The domain's reward for planning: low readings count four times, and readings as 10 mg/dL lower than they are."""
    reading = np.maximum(next_obs[..., READING] - 10.0, LOWEST)
    return -0.01 * risk(reading) * np.where(reading < SAFEST, 4.0, 1.0)


def planned(simulator: Any, agents: Sequence[int], seed: int) -> Any:
    """Planning in a simulator four hours ahead, one decision in 15 minutes for each agent."""
    from persim_gym.planning import ICEM, MPC

    dynamics = [simulator.dynamics(agent) for agent in agents]
    task = Task(careful, DOMAIN.task.terminated)
    planner = ICEM(candidates=48, iterations=3, horizon=16, elites=8)
    return MPC(dynamics, task, DOMAIN.action_space, planner=planner, seed=seed)


def closed_loop(options: argparse.Namespace) -> None:
    """Lets planning, the usual dosing and dosing without errors act on the true people, and writes their control."""
    from persim_gym.datasets.collect import EpsilonGreedy

    agents = range(options.agents)
    rows = []

    def add(dataset: str, method: str, policy: Any) -> None:
        found = control(live(policy, agents, ANOTHER_DAY))
        print(f"{dataset:16} {method:28}", " ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
        named = {"dataset": dataset, "method": method}
        rows.extend({**named, "metric": metric, "value": f"{value:.4g}"} for metric, value in found.items())

    add("", "usual dosing", usual(agents, ANOTHER_DAY))
    rng = np.random.default_rng(ANOTHER_DAY)
    add("", "usual dosing, a fifth random", EpsilonGreedy(usual(agents, ANOTHER_DAY), DOMAIN.action_space, 0.2, rng))
    add("", "dosing without errors", usual(agents, ANOTHER_DAY, basal_bolus(NONE)))
    for dataset in options.datasets:
        _, personal, common = simulators(options, dataset)
        add(dataset, "planning, personalized", planned(personal, agents, options.seed))
        add(dataset, "planning, not personalized", planned(common, [0] * len(agents), options.seed))
    keep_rows("closed-loop", rows, options)


# --- spread: the population beside the 30 patients --------------------------------------------------------------


def spread(options: argparse.Namespace) -> None:
    """Prints what meals and insulin do to our population and to simglucose's 30 patients; needs its table of them."""
    with options.table.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    columns = {c.name: DOMAIN.population[:, i] for i, c in enumerate(DOMAIN.covariates)}
    groups = {"population of 500": (patients(**columns), np.full(500, GLUCOSE_VOLUME))}
    for group, title in (("adult", "10 adults"), ("adolescent", "10 adolescents"), ("child", "10 children")):
        some = [row for row in table if row["Name"].startswith(group)]
        params, rest = (_numbers(some, names) for names in (PARAMETERS, [f"x0_{i:2d}" for i in range(1, 14)]))
        flow, weight, volume = _numbers(some, ("u2ss", "BW", "Vg")).T
        groups[title] = (Patients(params, rest, flow * weight / 100.0), volume)
    print("5 % / median / 95 % of   basal (U/h)   rise by 40 g (mg/dL)   minutes to its peak   fall by 1 U (mg/dL)")
    for name, (people, volume) in groups.items():
        found = [people.basal, *answers(people, volume)]
        print(f"{name:24}", "   ".join(" / ".join(f"{x:.1f}" for x in np.percentile(f, [5, 50, 95])) for f in found))


def _numbers(rows: Sequence[dict[str, str]], names: Sequence[str]) -> np.ndarray:
    """Columns of a table, [rows, names]."""
    return np.array([[float(row[name]) for name in names] for row in rows])


def answers(people: Patients, volume: np.ndarray) -> list[np.ndarray]:
    """Largest rise after 40 g and when, and largest fall after 1 U, in six hours from rest, [B] each."""
    curves = []
    for grams, bolus in ((40.0, 0.0), (0.0, 1.0)):
        body, meal, curve = people.rest.copy(), np.zeros((len(people.rest), 4)), []
        meal[:, 0] = grams
        for minute in range(0, 360, 5):
            advance(people.params, body, meal, people.basal / 60.0 + (bolus / 5.0 if minute == 0 else 0.0), 5)
            curve.append((body[:, 12] - people.rest[:, 12]) / volume)
        curves.append(np.stack(curve))
    return [curves[0].max(axis=0), 5.0 * (curves[0].argmax(axis=0) + 1), -curves[1].min(axis=0)]


# --- figure -----------------------------------------------------------------------------------------------------


def figure(options: argparse.Namespace) -> None:
    """Draws a further day of one person, and what the personalized simulator says four hours ahead."""
    from matplotlib.figure import Figure

    from persim_gym import load_simulator

    agents = range(options.agents)
    days = live(usual(agents, FURTHER_DAY), agents, FURTHER_DAY)
    predict = learned(load_simulator(options.models / "pure-eps-20-v0"))
    page = Figure(figsize=(10, 6), layout="constrained")
    for axes, agent in zip(page.subplots(3, 1, sharex=True), SHOWN, strict=True):
        hours = np.arange(STEPS_PER_DAY + 1) / 4.0
        axes.axhspan(*IN_RANGE, color="#dff0df", zorder=0)
        axes.plot(hours, days.obs[agent, :, READING], ".", color="#1f5aa8", markersize=4, label="sensor")
        axes.plot(hours, days.glucose[agent], color="black", linewidth=1, label="glucose")
        for hour in range(FIRST_HOUR, 21, 4):
            ahead = predicted_day(predict, days, agent, hour * 4, 16)
            axes.plot(hour + np.arange(17) / 4.0, ahead, color="#d9731a", linewidth=2)
        for step in np.flatnonzero(days.obs[agent, :, 6]):
            axes.annotate(f"{days.obs[agent, step, 6]:.0f} g", (step / 4.0, 326), fontsize=7, ha="center", va="top")
        axes.set(ylabel=f"agent {agent}\nmg/dL", ylim=(40, 330), xlim=(0, 24))
    axes.set(xlabel="hour of the day (orange: predicted four hours ahead, given insulin and meals)")
    page.savefig(options.figure, dpi=110)


SHOWN = (0, 1, 2)


def predicted_day(predict: Predict, days: Days, agent: int, start: int, steps: int) -> np.ndarray:
    """Readings predicted from one step on, [steps + 1], as `errors_ahead` predicts them."""
    readings = list(ahead(predict, days, agent, np.array([start]), steps))
    return np.concatenate([days.obs[agent, start : start + 1, READING], *readings])


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("compare", "errors", "bands", "closed-loop", "spread", "figure"))
    parser.add_argument("--datasets", nargs="+", default=["pure-v0", "random-v0", "pure-eps-20-v0"])
    parser.add_argument("--agents", type=int, default=100, help="the first so many of the population")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, default=Path("patients-simulators"), help="folder of simulators")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", help="patients to compare, such as child#007; the tests' days stay")
    parser.add_argument("--table", type=Path, help="vpatient_params.csv of simglucose, for spread")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "images" / "patients.png")
    options = parser.parse_args()
    studies = {
        "compare": compare,
        "errors": errors,
        "bands": bands,
        "closed-loop": closed_loop,
        "spread": spread,
        "figure": figure,
    }
    studies[options.study](options)


if __name__ == "__main__":
    main()
