"""150 people's logs as a plain table: what a simulator learns from declared columns alone, without features by hand.

The table has a row each 15 minutes: the sensor's reading, insulin, the carbohydrates of a meal that begins, and the
time of day. Three days are logged under the usual, erring dosing; errors are of the fourth. Insulin and meals on the
way are given to all methods. Gradient boosting needs scikit-learn. A simulation study, and no medical advice.

    OMP_NUM_THREADS=1 python benchmarks/patients_table.py errors
    OMP_NUM_THREADS=1 python benchmarks/patients_table.py closed-loop
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from patients import AHEAD, FIRST_HOUR, LAST_HOUR, RESULTS, SAFEST, Days, control, keep_rows, live, lived_on, usual

from persim_gym.envs.patients.chance import STEPS_PER_DAY
from persim_gym.envs.patients.domain import DOMAIN, risk
from persim_gym.envs.patients.physics import AT, LOWEST, action_of_rate, insulin_rate
from persim_gym.envs.patients.rule import NONE, basal_bolus
from persim_gym.planning import ICEM, MPC
from persim_gym.task import Task, never

NAME = "patients/table-v0"
HISTORY = "cgm=4,insulin=decay:55min,120min,carbs=decay:30min,75min"
STEP_NS = 15 * 60 * 10**9
LOGGED_SEEDS = (1, 2, 3)  # of the three logged days
SETTINGS = ("polish=true", "refine=3", "rank=16")
FURTHER_SEED = 4  # of the day that is predicted
RIDGES = (0.1, 1.0, 10.0, 100.0)
PAST = 4  # readings before the present one that the linear models and the boosting see
KEEP_INSULIN, KEEP_CARBS = (np.exp(-15.0 / np.array(minutes)) for minutes in ((55.0, 120.0), (30.0, 75.0)))


def logged_day(agents: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """One day of each agent, columns [N, 97]; insulin has no value in the last row."""
    days = live(usual(agents, seed), agents, seed)
    if (days.lived < STEPS_PER_DAY).any():
        raise SystemExit("somebody did not live through the day; take another seed")
    hour = np.broadcast_to(np.arange(STEPS_PER_DAY + 1) / STEPS_PER_DAY * 2 * np.pi, days.obs.shape[:2])
    insulin = np.pad(insulin_rate(days.action[:, :, 0]), ((0, 0), (0, 1)), constant_values=np.nan)
    return {
        "cgm": days.obs[:, :, 0].astype(np.float64),
        "carbs": days.obs[:, :, 6].astype(np.float64),
        "sin": np.sin(hour),
        "cos": np.cos(hour),
        "insulin": insulin,
    }


def table_of(days: Sequence[dict[str, np.ndarray]]) -> Any:
    """The days as one table, a row an agent and time; a day is a run of its own."""
    import pandas

    start, frames = np.datetime64("2026-01-01", "ns"), []
    for number, day in enumerate(days):
        agents, steps = day["cgm"].shape
        time = start + np.timedelta64(2 * number, "D") + np.arange(steps) * np.timedelta64(15, "m")
        columns = {name: values.ravel() for name, values in day.items()}
        person = np.repeat([f"P-{i:03d}" for i in range(agents)], steps)
        frames.append(pandas.DataFrame({"person": person, "time": np.tile(time, agents), **columns}))
    return pandas.concat(frames)


Predict = Callable[[int, int], np.ndarray]
"""Maps (agent, first step) to the readings of the next 16 steps."""


def errors_of(predict: Predict, day: dict[str, np.ndarray]) -> dict[int, float]:
    """RMSE of the sensor's reading, mg/dL, by minutes ahead, from every full hour of the day."""
    starts, furthest = np.arange(FIRST_HOUR, LAST_HOUR + 1) * 4, max(AHEAD.values())
    missed = []
    for agent in range(len(day["cgm"])):
        for begin in starts[starts + furthest <= STEPS_PER_DAY]:
            missed.append(predict(agent, begin) - day["cgm"][agent, begin + 1 : begin + 1 + furthest])
    found = np.sqrt(np.square(missed).mean(axis=0))
    return {minutes: float(found[steps - 1]) for minutes, steps in AHEAD.items()}


def simulated(simulator: Any, data: Any, agent_of: Callable[[int], int]) -> Predict:
    """Rollouts of a simulator along a further day; `data` are the day's transitions, one trajectory an agent.

    What comes from outside is put in after each step, as the environment does.
    """
    layout = simulator.spec.layout
    wide = layout.widened(data, 0)
    outside, first = layout.outside, STEPS_PER_DAY - layout.lag  # rows of a trajectory

    def predict(agent: int, begin: int) -> np.ndarray:
        dynamics = simulator.dynamics(agent_of(agent))
        row = agent * first + begin - layout.lag
        now = np.broadcast_to(wide.obs[row], (dynamics.members, 1, layout.width)).copy()
        readings = []
        for step in range(max(AHEAD.values())):
            now = dynamics(now, wide.action[row + step][None])[..., : layout.width].copy()
            now[..., outside] = wide.next_obs[row + step, outside]
            readings.append(now[:, 0, 0].mean())
        return np.array(readings)

    return predict


def features(day: dict[str, np.ndarray]) -> np.ndarray:
    """What linear models and boosting see at each step, [N, 97, F]: past readings, averages, meals and the clock."""
    cgm, insulin, carbs = day["cgm"], np.nan_to_num(day["insulin"]), day["carbs"]
    columns = [cgm]
    for lag in range(1, PAST + 1):
        columns.append(np.pad(cgm, ((0, 0), (lag, 0)), mode="edge")[:, : cgm.shape[1]])
    for source, keeps in ((insulin, KEEP_INSULIN), (carbs, KEEP_CARBS)):
        for keep in keeps:
            average = np.empty_like(source)
            average[:, 0] = source.mean(axis=1)
            for t in range(1, source.shape[1]):
                average[:, t] = keep * average[:, t - 1] + (1 - keep) * source[:, t - 1]
            columns.append(average)
    return np.stack([*columns, carbs, day["sin"], day["cos"]], axis=-1)


def known_ahead(day: dict[str, np.ndarray], steps: int) -> np.ndarray:
    """Insulin and meals of the next steps, [N, 97 - steps, 2 * steps]."""
    count = STEPS_PER_DAY + 1 - steps
    insulin = [day["insulin"][:, k : k + count] for k in range(steps)]
    carbs = [day["carbs"][:, k : k + count] for k in range(1, steps + 1)]
    return np.stack([*insulin, *carbs], axis=-1)


def direct_rows(days: Sequence[dict[str, np.ndarray]], steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [N, days * rows, F] and changes of the reading `steps` later, [N, days * rows]."""
    count = STEPS_PER_DAY + 1 - steps
    x = [np.concatenate([features(day)[:, :count], known_ahead(day, steps)], axis=-1) for day in days]
    y = [day["cgm"][:, steps:] - day["cgm"][:, :count] for day in days]
    return np.concatenate(x, axis=1), np.concatenate(y, axis=1)


def direct_errors(
    fit: Callable[[int], Callable[[np.ndarray], np.ndarray]], day: dict[str, np.ndarray]
) -> dict[int, float]:
    """Errors of models made for each horizon: `fit` maps steps to a function of inputs [N, rows, F]."""
    found = {}
    for minutes, steps in AHEAD.items():
        x, y = direct_rows([day], steps)
        starts = np.arange(FIRST_HOUR, LAST_HOUR + 1) * 4
        starts = starts[starts + max(AHEAD.values()) <= STEPS_PER_DAY]
        missed = fit(steps)(x[:, starts]) - y[:, starts]
        found[minutes] = float(np.sqrt(np.square(missed).mean()))
    return found


def own_ridges(
    days: Sequence[dict[str, np.ndarray]], ridge: float
) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
    """A linear model for each person and horizon."""

    def fit(steps: int) -> Callable[[np.ndarray], np.ndarray]:
        x, y = direct_rows(days, steps)
        mean, scale = x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True) + 1e-9
        z, level = (x - mean) / scale, y.mean(axis=1, keepdims=True)
        gram = z.transpose(0, 2, 1) @ z + ridge * np.eye(x.shape[-1])
        weight = np.linalg.solve(gram, z.transpose(0, 2, 1) @ (y - level)[..., None])
        return lambda new: (((new - mean) / scale) @ weight)[..., 0] + level

    return fit


def own_arx(days: Sequence[dict[str, np.ndarray]], ridge: float, day: dict[str, np.ndarray]) -> Predict:
    """A linear model of one step for each person, rolled out; it sees its own readings as it goes."""
    ahead = own_ridges(days, ridge)(1)
    own = features(day)
    memo: dict[int, np.ndarray] = {}

    def rolled(begin: int) -> np.ndarray:
        now, readings = own[:, begin].copy(), []
        for step in range(begin, begin + max(AHEAD.values())):
            given = np.stack([day["insulin"][:, step], day["carbs"][:, step + 1]], axis=-1)
            reading = now[:, 0] + ahead(np.concatenate([now, given], axis=-1)[:, None])[:, 0]
            following = own[:, step + 1].copy()
            following[:, 1 : PAST + 1] = now[:, :PAST]
            following[:, 0] = reading
            readings.append(reading)
            now = following
        return np.stack(readings, axis=1)

    def predict(agent: int, begin: int) -> np.ndarray:
        if begin not in memo:
            memo[begin] = rolled(begin)
        return memo[begin][agent]

    return predict


def boosting(days: Sequence[dict[str, np.ndarray]]) -> Callable[[int], Callable[[np.ndarray], np.ndarray]]:
    """Gradient boosting for each horizon, of all people, with statistics of each person's log."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    joined = {name: np.concatenate([day[name] for day in days], axis=1) for name in days[0]}
    person = [joined["cgm"].mean(axis=1), joined["cgm"].std(axis=1), np.nanmean(joined["insulin"], axis=1)]
    person += [np.nanstd(joined["insulin"], axis=1), joined["carbs"].mean(axis=1), joined["cgm"].min(axis=1)]
    statistics = np.stack([*person, joined["cgm"].max(axis=1)], axis=-1)  # [N, 7]

    def fit(steps: int) -> Callable[[np.ndarray], np.ndarray]:
        def rows(x: np.ndarray) -> np.ndarray:
            return np.concatenate([x, np.broadcast_to(statistics[:, None], (*x.shape[:2], 7))], axis=-1)

        x, y = direct_rows(days, steps)
        x = rows(x)
        model = HistGradientBoostingRegressor(max_iter=400, learning_rate=0.05, random_state=0)
        model.fit(x.reshape(-1, x.shape[-1]), y.ravel())
        return lambda new: model.predict(rows(new).reshape(-1, x.shape[-1])).reshape(new.shape[:2])

    return fit


def errors(options: argparse.Namespace) -> None:
    """Errors of all methods on the fourth day."""
    agents = range(options.agents)
    days, further = [logged_day(agents, seed) for seed in LOGGED_SEEDS], logged_day(agents, FURTHER_SEED)
    rows: list[dict[str, Any]] = []

    def add(method: str, make: Callable[[], dict[int, float]]) -> None:
        if options.only and method not in options.only:
            return
        found = make()
        print(f"{method:44}", " ".join(f"{value:6.2f}" for value in found.values()), "mg/dL", flush=True)
        named = {"dataset": "table", "method": method, "metric": "rmse (mg/dL)"}
        rows.extend({**named, "minutes": minutes, "value": f"{value:.4g}"} for minutes, value in found.items())

    add("nothing changes", lambda: errors_of(lambda a, t: np.full(16, further["cgm"][a, t]), further))
    for ridge in RIDGES:
        add(f"own linear model, ridge {ridge:g}", partial(errors_of, own_arx(days, ridge, further), further))
        add(f"own linear models by horizon, ridge {ridge:g}", partial(direct_errors, own_ridges(days, ridge), further))
    add("gradient boosting by horizon", lambda: direct_errors(boosting(days), further))
    with tempfile.TemporaryDirectory() as folder:
        for method, (recipe, variant) in METHODS.items():
            add(method, partial(simulator_errors, days, further, options, Path(folder), recipe, variant))
    if not options.only:
        keep_rows("table", rows, options)


METHODS = {  # of our own: recipe and variant
    "not personalized": ("patients", "unpersonalized"),
    "personalized, general recipe": ("general", "factored"),
    "personalized": ("patients", "factored"),
}


def simulator_errors(
    days: Sequence[dict[str, np.ndarray]],
    further: dict[str, np.ndarray],
    options: argparse.Namespace,
    folder: Path,
    recipe: str,
    variant: str,
) -> dict[int, float]:
    """Errors of a simulator of the table; see `trained`."""
    simulator = trained(days, options, folder, recipe, variant)
    return errors_of(simulated(simulator, imported(folder, [further], "patients/further-v0"), int), further)


def imported(folder: Path, days: Sequence[dict[str, np.ndarray]], name: str) -> Any:
    """The days as a dataset, by way of a table."""
    os.environ["MINARI_DATASETS_PATH"] = str(folder / "datasets")
    from persim_gym.datasets import from_table, load

    roles: dict[str, Any] = {"exogenous": ["carbs", "sin", "cos"], "continuous": ["insulin"], "progress": False}
    columns = {"agent": "person", "time": "time", "obs": "cgm", "action": "insulin"}
    from_table(table_of(days), name=name, force=True, **columns, **roles)
    return load(name)


def trained(
    days: Sequence[dict[str, np.ndarray]], options: argparse.Namespace, folder: Path, recipe: str, variant: str
) -> Any:
    """A simulator of the table."""
    imported(folder, days, NAME)
    from persim_gym import train
    from persim_gym.workflows.training_setup import recipe_for

    return train(
        NAME,
        recipe=replace(recipe_for(recipe, continuous=True), members=options.members),
        settings=options.settings if recipe == "patients" else (),
        history=options.history,
        variant=variant,
        seed=options.seed,
        out=folder / f"{recipe}-{variant}",
        force=True,
        progress=False,
    )


# --- closed loop: insulin for people that training never saw, after one day of their log -------------------------

NEW_PEOPLE, NEW_SEED, DAYS_SEED, DAYS = 10, 21, 23, 2  # planning was set up on days of 22
HORIZON = 16  # steps that planning looks ahead
MOST_INSULIN = 12.0  # U/h that planning may give
MARGIN, LOW_WEIGHT = 20.0, 4.0  # mg/dL that readings count as lower in planning; of low readings


def closed_loop(options: argparse.Namespace) -> None:
    """Two days of ten new people under planning, their usual dosing and dosing without errors; meals are announced."""
    agents = range(options.agents, options.agents + NEW_PEOPLE)
    days = [logged_day(range(options.agents), seed) for seed in LOGGED_SEEDS]
    rows: list[dict[str, Any]] = []

    def add(method: str, dose: Any) -> None:
        found = control(two_days(agents, dose))
        print(f"{method:28}", " ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
        named = {"dataset": "table", "method": method, "agents": NEW_PEOPLE}
        rows.extend({**named, "metric": metric, "value": f"{value:.4g}"} for metric, value in found.items())

    add("usual dosing", None)
    add("dosing without errors", usual(agents, NEW_SEED, basal_bolus(NONE)))
    with tempfile.TemporaryDirectory() as folder:
        simulator = trained(days, options, Path(folder), "patients", "factored")
        first = logged_day(agents, NEW_SEED)
        log = imported(Path(folder), [first], "patients/new-v0")
        add("planning, personalized", Planned(simulator.personalize(log), log))
    keep_rows("table closed loop", rows, options)


def cautious(obs: Any, action: Any, next_obs: Any) -> Any:
    """The domain's reward for planning: low readings count more, and readings as lower than they are."""
    reading = np.maximum(next_obs[..., 0] - MARGIN, LOWEST)
    return -0.01 * risk(reading) * np.where(reading < SAFEST, LOW_WEIGHT, 1.0)


class Planned:
    """Planning for new people in a simulator that has one day of their logs."""

    def __init__(self, simulator: Any, log: Any) -> None:
        """Starts from the end of the log.

        Args:
            simulator: Knows the people as its new agents.
            log: Their logs, one trajectory each.
        """
        layout = simulator.spec.layout
        wide = layout.widened(log, 0)
        last = np.append(np.flatnonzero(np.diff(wide.trajectory)), len(wide) - 1)
        self._layout, self._wide = layout, wide.next_obs[last]
        self._hour, self._acted = 0, np.zeros((len(last), 1), dtype=np.float32)
        dynamics = [simulator.dynamics(agent) for agent in simulator.new_agents]
        planner = ICEM(candidates=100, iterations=5, horizon=HORIZON, elites=10)
        space = spaces.Box(0.0, MOST_INSULIN, (1,), dtype=np.float32)
        self._mpc = MPC(dynamics, Task(cautious, never), space, planner=planner, foresight=self._ahead)

    def _ahead(self, row: int) -> np.ndarray:
        """Nobody knows of meals to come; the clock is known."""
        angle = (self._hour + 1 + np.arange(HORIZON)) / STEPS_PER_DAY * 2 * np.pi
        return np.stack([np.zeros(HORIZON), np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)

    def predict(self, obs: np.ndarray, state: Any = None) -> tuple[np.ndarray, Any]:
        """Actions of the domain's observations, [B, D]."""
        present = np.concatenate([obs[:, :1], obs[:, 6:9]], axis=1).astype(np.float32)
        if self._hour:
            self._wide = self._layout.after(self._wide, self._acted, present)
        else:  # The log ends where the two days begin.
            self._wide = np.concatenate([present, self._wide[:, self._layout.present :]], axis=1)
        self._acted, _ = self._mpc.predict(self._wide)
        self._hour += 1
        return action_of_rate(self._acted), None


def two_days(agents: Sequence[int], policy: Any) -> Days:
    """Two days of people behind one day of their usual dosing; None goes on with that."""
    columns = {c.name: DOMAIN.population[list(agents), i] for i, c in enumerate(DOMAIN.covariates)}
    physics, state = DOMAIN.physics(**columns), DOMAIN.initial_state(np.random.default_rng(NEW_SEED), len(agents))
    before, memory = usual(agents, NEW_SEED), None
    for _ in range(STEPS_PER_DAY):
        action, memory = before.predict(DOMAIN.observe(state).astype(np.float32), memory)
        state = physics(state, action)
    further = DOMAIN.initial_state(np.random.default_rng(DAYS_SEED), len(agents))
    state[:, AT.meals], state[:, AT.noise], state[:, AT.clock] = further[:, AT.meals], further[:, AT.noise], 0
    if policy is not None:
        before, memory = policy, None
    return lived_on(before, memory, physics, state, DAYS * STEPS_PER_DAY)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=("errors", "closed-loop"))
    parser.add_argument("--agents", type=int, default=150, help="people (default: %(default)s)")
    parser.add_argument("--members", type=int, default=5, help="members of an ensemble (default: %(default)s)")
    parser.add_argument("--history", default=HISTORY, help="as persim train takes it (default: %(default)s)")
    parser.add_argument("--set", nargs="*", default=SETTINGS, dest="settings", help="changes of the domain's recipe")
    parser.add_argument("--only", nargs="*", default=[], help="methods to run (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="CSV file of results (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    given = parse()
    {"errors": errors, "closed-loop": closed_loop}[given.study](given)
