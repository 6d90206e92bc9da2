"""Averaged weights, losses over several steps and physical features: what each brings a simulator's predictions.

One plain training loop in PyTorch, gradients by autograd, on the project's own model, start, scales, schedule, pull and
noise, for few epochs; polished only in rows that say so. Averages are taken along the unchanged training. A row of
`--out` is a model trained and measured by `persim_gym.evaluation.prediction.prediction_error` on agents 0-4; rows that
are there are not made again.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --seeds 0 1
    python benchmarks/ablations.py --page docs/ablations.md
"""

import argparse
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from plain_training import AVERAGES, Bound, Featured, Features, train
from torch import Tensor
from tqdm import tqdm

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import DOMAINS
from persim_gym.envs.mujoco.physics import load_model
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.jobs import RowLog
from persim_gym.simulator.inference.personalize import polished
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.initial_model import initial_model
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.workflows.training_setup import recipe_for

UNCHANGED = "nothing changed"
TWICE = "twice the batch and the epochs"  # sees as many transitions as a loss over 2 steps, in as many updates
HORIZONS = {"loss over 2 steps": 2, "loss over 4 steps": 4}
BUDGETS: dict[str, dict[str, Any]] = {  # what is cut of the default recipe of random-v0
    "cartpole": {"epochs": 200},
    "mountaincar": {"epochs": 4},
    "halfcheetah": {"members": 1, "epochs": 2, "halve_every": 1},
}
JOB = ("domain", "change", "seed")
COLUMNS = (*(f"rmse_{agent}" for agent in TEST_AGENTS), "seconds")
CLEAR = 0.2  # share of an error that counts as a difference


def pole(obs: Tensor) -> Tensor:
    """Sine and cosine of the pole's angle, which gravity and push act through (`_step` of envs/cartpole.py)."""
    return torch.stack([obs[..., 2].sin(), obs[..., 2].cos()], dim=-1)


def slope(obs: Tensor) -> Tensor:
    """cos(3 position): gravity along the hill (`_step` of envs/mountain_car.py)."""
    return (3 * obs[..., :1]).cos()


def limbs(obs: Tensor) -> Tensor:
    """Sines and cosines of pitch and the six joints' angles (`PLANAR_POSITIONS` and `JOINTS` of envs)."""
    return torch.cat([obs[..., 2:9].sin(), obs[..., 2:9].cos()], dim=-1)


def ends(obs: Tensor) -> Tensor:
    """Heights and velocities, forward and up, of both ends of the body's eight capsules, which touch the ground."""
    body = load_model("half_cheetah.xml")
    zero = torch.zeros_like(obs[..., 0])
    frames = [(zero, zero, zero, zero, zero, zero)]  # x, z, their velocities, angle, angular velocity: of the world
    found: list[Tensor] = []

    def carried(frame: tuple[Tensor, ...], point: NDArray[Any]) -> tuple[Tensor, ...]:
        x, z, dx, dz, angle, turning = frame
        across = point[0] * angle.cos() + point[2] * angle.sin()
        up = point[2] * angle.cos() - point[0] * angle.sin()
        return x + across, z + up, dx + turning * up, dz - turning * across

    for b in range(1, body.nbody):
        at = carried(frames[body.body_parentid[b]], body.body_pos[b])
        hinge = body.body_jntadr[b] + body.body_jntnum[b] - 1  # behind the torso's slides; position 0 is not observed
        angle, turning = (frames[body.body_parentid[b]][4 + k] + obs[..., k * body.nv + hinge] for k in (0, 1))
        if body.body_parentid[b] == 0:  # slides, too
            at = at[0], at[1] + obs[..., 1], at[2] + obs[..., body.nv], at[3] + obs[..., body.nv + 1]
        frames.append((*at, angle, turning))
        for g in range(body.body_geomadr[b], body.body_geomadr[b] + body.body_geomnum[b]):
            w, _, y, _ = body.geom_quat[g]
            along = body.geom_size[g, 1] * np.array([2 * w * y, 0.0, 1 - 2 * y * y])
            for end in (body.geom_pos[g] + along, body.geom_pos[g] - along):
                found.extend(carried(frames[b], end)[1:])
    return torch.stack(found, dim=-1)


FEATURES: dict[str, dict[str, Features]] = {
    "cartpole": {"sin and cos of the angle as inputs": pole},
    "mountaincar": {"cos(3 position) as an input": slope},
    "halfcheetah": {
        "sin and cos of pitch and joints as inputs": limbs,
        "heights and velocities of the limbs' ends as inputs": ends,
    },
}


def budget(domain: str) -> TrainingRecipe:
    """The reduced recipe of a domain's random data."""
    return replace(recipe_for(f"{domain}/random-v0"), **BUDGETS[domain])


def rows_of(domain: str) -> dict[str, tuple[str, ...]]:
    """Each training of a domain, which is a row, and the further rows that are made of it."""
    polished_too = {change: (f"{change}, polished",) for change in (UNCHANGED, TWICE, *HORIZONS)}
    return {**polished_too, UNCHANGED: (*AVERAGES, *polished_too[UNCHANGED]), **dict.fromkeys(FEATURES[domain], ())}


def trained(domain: str, change: str, seed: int) -> tuple[dict[str, FactoredEnsemble], float]:
    """Models by the name of their row, and the CPU seconds of their training."""
    spec, recipe = DOMAINS[domain], budget(domain)
    if change == TWICE:
        twice = {name: 2 * getattr(recipe, name) for name in ("batch", "epochs", "halve_every")}
        recipe = replace(recipe, **twice)
    n_actions = int(spec.action_space.n) if isinstance(spec.action_space, spaces.Discrete) else 0
    transitions = load(f"persim/{domain}/random-v0", progress=False)
    model = initial_model(transitions, recipe, Problem(n_actions), "factored", seed)
    if spec.clips:
        model.obs_low.copy_(torch.from_numpy(spec.observation_space.low))
        model.obs_high.copy_(torch.from_numpy(spec.observation_space.high))
    features = FEATURES[domain].get(change)
    if features is not None:
        model.state_encoder = Featured(model, recipe, features, torch.from_numpy(transitions.obs), seed)
    started = time.process_time()
    models = train(model, transitions, recipe, HORIZONS.get(change, 1), AVERAGES if change == UNCHANGED else (), seed)
    seconds = time.process_time() - started
    if features is None:
        models[f"{change}, polished"] = polished(model, factor_posterior(model, transitions, seed))
    return {change: model.eval(), **models}, seconds


def measure(log: RowLog, domains: Sequence[str], seeds: Sequence[int]) -> None:
    """Trains and measures what the log lacks."""
    jobs = [(domain, *names, seed) for domain in domains for seed in seeds for names in rows_of(domain).items()]
    for domain, change, made_of_it, seed in tqdm(jobs, desc="trainings"):
        keys = [{"domain": domain, "change": name, "seed": seed} for name in (change, *made_of_it)]
        if all(log.get(key) for key in keys):
            continue
        models, seconds = trained(domain, change, seed)
        test = load_behavior_policy(domain, TEST)
        for key in (key for key in keys if not log.get(key)):
            row: dict[str, float] = {"seconds": seconds}
            for agent in TEST_AGENTS:
                dynamics = Bound(models[str(key["change"])], agent)
                error = prediction_error(dynamics, DOMAINS[domain], agent, test, seed=seed)
                row[f"rmse_{agent}"] = error.mean_rmse
            log.add(key, row)


def table(rows: Sequence[Mapping[str, str]], domain: str) -> str:
    """Markdown: errors by agent and seed, and how many differ clearly from those of the same loop unchanged."""
    runs: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        if row["domain"] == domain:
            runs.setdefault(row["change"], {})[row["seed"]] = row
    if not runs:
        return ""
    recipe, usual = budget(domain), recipe_for(f"{domain}/random-v0")
    whole = f"trains each member on {usual.samples:,} transitions" if usual.samples else f"has {usual.epochs}"
    agents = " | ".join(f"agent {agent}" for agent in TEST_AGENTS)
    lines = [
        f"## {domain}/random-v0\n\n{recipe.epochs} epochs; the recipe {whole}. Members: {recipe.members}.\n",
        f"| change | seeds | {agents} | 20 % better | 20 % worse | training, CPU s |",
        f"|---|---|{'---|' * (len(TEST_AGENTS) + 3)}",
    ]
    for name in (name for change, made_of_it in rows_of(domain).items() for name in (change, *made_of_it)):
        reference = runs.get(f"{UNCHANGED}, polished" if name.endswith(", polished") else UNCHANGED, {})
        seeds = sorted(runs.get(name, {}).keys() & reference.keys())
        if not seeds:
            continue
        now, base = (errors([known[seed] for seed in seeds]) for known in (runs[name], reference))
        cells = " | ".join(" / ".join(f"{error:.4f}" for error in column) for column in now.T)
        better, worse = (now <= (1 - CLEAR) * base).sum(), (now >= (1 + CLEAR) * base).sum()
        seconds = np.mean([float(runs[name][seed]["seconds"]) for seed in seeds])
        lines.append(
            f"| {name} | {' / '.join(seeds)} | {cells} | {better} of {now.size} | {worse} of {now.size} "
            f"| {seconds:.0f} |"
        )
    return "\n".join(lines) + "\n"


def errors(rows: Sequence[Mapping[str, str]]) -> NDArray[np.float64]:
    """RMSE by seed and agent, [seeds, agents]."""
    return np.array([[float(row[f"rmse_{agent}"]) for agent in TEST_AGENTS] for row in rows])


PAGE = """# Ideas that were tried and brought nothing

Five facts:

- Three ideas from the literature were tried on the default recipes: averaged weights, losses over several steps, and
  physical features as inputs.
- None of them is a gain that would change a recipe.
- Averages hardly move an error, since the learning rate ends near zero anyway.
- Losses over several steps help with one seed and hurt with another on CartPole. On MountainCar they take 16 to 25 %
  off the errors of two agents of five for 2.2 times the time, where solving a layer and the factors in closed form
  takes off 92 to 99 % of all.
- The feature cos(3 position) takes 39 to 71 % off MountainCar's errors, but one has to know the physics to choose it.

These are what [the other ablations](accuracy.md#what-the-parts-of-a-recipe-bring) leave out. [Results at a
glance](findings.md#words-that-these-pages-use) explains the words.

## How it was tried

One plain training loop is run unchanged and with each change, for a part of the recipe's epochs. Figures are the RMSE
of agents 0–4 as on [the page of accuracy](accuracy.md), of one seed or of two, seed 0 / seed 1. The last columns
count how many of these RMSEs are better and worse than that of the same seed with nothing changed:

- **20 % better** counts those that are at most 0.8 times as large.
- **20 % worse** counts those that are 1.2 times as large and more.
- **Polished** rows end with one closed form for the agents' factors, as the default recipes do. They are compared with
  the polished row in which nothing is changed.
- **A loss over k steps** takes k consecutive transitions of one trajectory. Each step but the first starts from the
  prediction of the one before.
- **Twice the batch and the epochs** sees as many transitions as the loss over 2 steps does, one step ahead.

??? note "The loop, and how windows are batched"

    The loop is `benchmarks/plain_training.py`: autograd, the project's own model, start, scales, schedule, pull and
    noise. A test says that its weights are those of `fit`. Predictions in a loss over k steps are clipped as the
    model clips, and gradients go through all steps. Windows are batched as transitions are, in as many updates, so
    such a loss sees k times as many transitions. Windows that the wall stops in are left out. Seconds are of one
    thread; those of the unchanged loop hold all averages.

        python benchmarks/ablations.py --domains cartpole mountaincar --seeds 0 1
        python benchmarks/ablations.py --domains halfcheetah --seeds 0
        python benchmarks/ablations.py --page docs/ablations.md

## What came of it

**Averaged weights.** The schedule ends near zero, so the last tenth of steps and the exponential average are nearly the
last weights. The last quarter is better for CartPole's agent 4 (23 and 29 %), elsewhere within 15 % or worse.

**Losses over several steps.** On CartPole the seed decides more than any change. The loss over 2 steps is 1.8 to 37
times better than nothing changed at seed 0, and 5 to 17 times worse at seed 1, but for agent 4. Twice the transitions
one step ahead leave seed 0 about where it was (1 of 5 better, none worse). On MountainCar a loss over 2 steps takes
2 to 18 % off agents 0 and 2, and nothing that both seeds share off the others. One over 4 steps takes off 16 to 25 %
there, for 2.2 times the time; the rounds in closed form that end the recipe take 92 to 99 % off every agent
([accuracy](accuracy.md)).

**Physical features.** Sine and cosine of CartPole's angle make 7 of 10 errors worse. cos(3 position), all that is not
linear in MountainCar between its clips, takes 39 to 71 % off every agent at no cost. But one has to know it, and the
closed form does without.

**HalfCheetah** (one member, two epochs, one seed), where the learning rate does not end near zero:

- The last steps averaged take a tenth off agent 0, but nothing off the others. The exponential average still
  remembers the start.
- A loss over 2 steps brings less than as many transitions one step ahead. Over 4 steps it is better for agent 2 and
  worse for agents 0, 3 and 4.
- Sines and cosines change nothing.
- Knowing where the ends of its limbs are, which meet the ground, and how fast they move takes a tenth off agent 0 and
  5 % off agent 3. It adds 17 % to agent 1, and lets rollouts of agent 2 leave the data.

CartPole's loss over 4 steps was not measured at seed 1.

{tables}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=list(BUDGETS), choices=list(BUDGETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("ablations.csv"), help="rows, kept (default: %(default)s)")
    parser.add_argument("--page", type=Path, help="train nothing; write the page of all rows there")
    args = parser.parse_args()
    if not args.page:
        measure(RowLog(args.out, JOB, COLUMNS), args.domains, args.seeds)
        return
    with args.out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    tables = "\n".join(filter(None, (table(rows, domain) for domain in BUDGETS)))
    args.page.write_text(PAGE.format(tables=tables), encoding="utf-8")


if __name__ == "__main__":
    main()
