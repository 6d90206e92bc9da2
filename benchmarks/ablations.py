"""Averaged weights, losses over several steps and physical features: what each brings a simulator's predictions.

One plain training loop in PyTorch, gradients by autograd, on the project's own model, start, scales, schedule, pull and
noise; no polish. Reduced epochs. Averages are taken along the unchanged training. A row of `--out` is a model trained
and measured by `persim_gym.evaluate.prediction_error` on agents 0-4; rows that are there are not made again.

    OMP_NUM_THREADS=1 python benchmarks/ablations.py --seeds 0 1
    python benchmarks/ablations.py --page docs/ablations.md
"""

import argparse
import csv
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from tqdm import tqdm

from persim_gym.datasets import load
from persim_gym.datasets.behaviour import TEST, load_policy
from persim_gym.envs import DOMAINS
from persim_gym.evaluate import prediction_error
from persim_gym.experiments.protocol import TEST_AGENTS
from persim_gym.experiments.runs import RowLog
from persim_gym.simulator.data import SMALLEST_STD, Batchable, Parts
from persim_gym.simulator.encoders import AgentEncoder, EnsembleMLP
from persim_gym.simulator.fit import _model_for, learning_rate
from persim_gym.simulator.model import FactoredEnsemble
from persim_gym.simulator.recipe import TrainingRecipe, recipe_for
from persim_gym.transitions import Transitions

UNCHANGED = "nothing changed"
AVERAGES = {  # share of training that an average leaves out, and how it weighs the steps behind
    "averaged over the last tenth of steps": (0.9, get_swa_multi_avg_fn()),
    "averaged over the last quarter of steps": (0.75, get_swa_multi_avg_fn()),
    "exponential moving average, 0.999": (0.0, get_ema_multi_avg_fn(0.999)),
}
HORIZONS = {"loss over 2 steps": 2, "loss over 4 steps": 4}
BUDGETS: dict[str, dict[str, Any]] = {  # what is cut of the default recipe of random-v0
    "cartpole": {"epochs": 200},
    "mountaincar": {"epochs": 8},
    "halfcheetah": {"members": 1, "epochs": 2, "halve_every": 1},
}
JOB = ("domain", "change", "seed")
COLUMNS = (*(f"rmse_{agent}" for agent in TEST_AGENTS), "seconds")
CLEAR = 0.2  # share of an error that counts as a difference

Features = Callable[[Tensor], Tensor]
"""Maps observations in raw units, [..., D], to features, [..., F]."""


def pole(obs: Tensor) -> Tensor:
    """Sine and cosine of the pole's angle, which gravity and push act through (`_step` of envs/cartpole.py)."""
    return torch.stack([obs[..., 2].sin(), obs[..., 2].cos()], dim=-1)


def slope(obs: Tensor) -> Tensor:
    """cos(3 position): gravity along the hill (`_step` of envs/mountain_car.py)."""
    return (3 * obs[..., :1]).cos()


def limbs(obs: Tensor) -> Tensor:
    """Sines and cosines of pitch and the six joints' angles (`PLANAR_POSITIONS` and `JOINTS` of envs)."""
    return torch.cat([obs[..., 2:9].sin(), obs[..., 2:9].cos()], dim=-1)


FEATURES: dict[str, tuple[str, Features]] = {
    "cartpole": ("sin and cos of the angle as inputs", pole),
    "mountaincar": ("cos(3 position) as an input", slope),
    "halfcheetah": ("sin and cos of pitch and joints as inputs", limbs),
}


class Featured(nn.Module):
    """A state encoder that sees features of the raw observation beside the scaled one."""

    def __init__(self, model: FactoredEnsemble, recipe: TrainingRecipe, features: Features, obs: Tensor, seed: int):
        """Draws the weights; features of the logged observations, [K, D], give the scales where the recipe scales."""
        super().__init__()
        s, logged = model.shape, features(obs.double())
        sizes = (s.obs_dim + logged.shape[-1], *s.state_layers, s.out_dim * s.rank)
        self.mlp = EnsembleMLP(s.members, sizes, s.activation, torch.Generator().manual_seed(seed))
        self.features, self.unit, self.origin = features, model.obs_std.clone(), model.obs_mean.clone()
        self.mean = logged.mean(0).float() * recipe.standardize
        self.std = logged.std(0).clamp_min(SMALLEST_STD).float() if recipe.standardize else torch.ones(1)

    def forward(self, scaled: Tensor) -> Tensor:
        """Maps scaled observations, [M, B, D], to v, [M, B, D * R]."""
        known = (self.features(scaled * self.unit + self.origin) - self.mean) / self.std
        v: Tensor = self.mlp(torch.cat([scaled, known], dim=-1))
        return v


@dataclass(frozen=True)
class Bound:
    """A model bound to one agent, whatever its state encoder; `Dynamics` for `prediction_error`."""

    model: FactoredEnsemble
    agent: int

    @property
    def members(self) -> int:
        """Ensemble size M."""
        return self.model.shape.members

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any], action: NDArray[Any]) -> NDArray[np.float32]:
        """Next observations, [M, E, D], of observations [M, E, D] and actions [E] or [E, A]."""
        agent = torch.full((len(action),), self.agent)
        guess = self.model.predict(agent, torch.tensor(obs, dtype=torch.float32), torch.tensor(action))
        return np.asarray(guess.numpy())


def windows(trajectory: NDArray[np.int64], horizon: int) -> NDArray[np.int64]:
    """First rows of all windows of `horizon` transitions that lie within one trajectory."""
    last = len(trajectory) - horizon + 1
    return np.flatnonzero(trajectory[:last] == trajectory[horizon - 1 :])


def window_loss(
    model: FactoredEnsemble,
    data: Batchable,
    first: Tensor,
    horizon: int,
    recipe: TrainingRecipe,
    noise: torch.Generator,
) -> Tensor:
    """Squared error of open-loop predictions, in units of the scaled change, mean over windows and steps, and the pull.

    Over one step it is the loss of `fit`. Later steps start from the step before's prediction, clipped as the model
    clips; what that is off by counts as error of the change. Noise comes anew to what each step sees.

    Args:
        model: The ensemble.
        data: Agents, scaled observations, actions and scaled changes, in the order of trajectories.
        first: First rows of windows, [M, B].
        horizon: Steps.
        recipe: The training recipe.
        noise: Source of noise.
    """
    agents, seen, actions, changes = data
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    offset = encoder.offset(agents[first])  # [M, B, R]
    low, high = model.scale_obs(model.obs_low), model.scale_obs(model.obs_high)
    scaled, error = seen[first], torch.zeros(())
    for step in range(horizon):
        rows = first + step
        off = (scaled - seen[rows]) * (model.obs_std / model.delta_std) if step else 0.0
        given = scaled + recipe.noise * torch.randn(scaled.shape, generator=noise) if recipe.noise else scaled
        change = model.scaled_delta(offset + encoder.bias, given, actions[rows])  # [M, B, D]
        error = error + (change + off - changes[rows]).square().sum()
        if step + 1 < horizon:
            scaled = scaled + (change * model.delta_std + model.delta_mean) / model.obs_std
            scaled = scaled.clamp(low, high)
    return (error / horizon + recipe.pull * offset.square().sum()) / first.shape[1]


def train(
    model: FactoredEnsemble,
    transitions: Transitions,
    recipe: TrainingRecipe,
    horizon: int = 1,
    averages: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, FactoredEnsemble]:
    """Trains in place by as many updates as `fit` makes; returns the named averages over its updates."""
    parts = Parts(transitions, seed, len(transitions))
    data, starts = parts.read(model, 0, 0), windows(transitions.trajectory, horizon)
    recipe = replace(recipe, epochs=round(recipe.epochs * len(transitions) / len(starts)))  # fewer windows than rows
    steps = len(starts) // recipe.batch
    noise = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    averaged = {name: AveragedModel(model, multi_avg_fn=AVERAGES[name][1]) for name in averages}
    bar = tqdm(total=recipe.epochs * steps, unit="step", leave=False, mininterval=1.0)
    for epoch in range(recipe.epochs):
        order = torch.from_numpy(starts[parts.order(recipe.members, epoch, 0, len(starts))])
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch, step, steps)
            first = order[:, step * recipe.batch : (step + 1) * recipe.batch]
            loss = window_loss(model, data, first, horizon, recipe, noise)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            bar.update()
            for name, average in averaged.items():
                if bar.n > AVERAGES[name][0] * recipe.epochs * steps:
                    average.update_parameters(model)
        bar.set_postfix(loss=f"{loss.item():.4g}")
    bar.close()
    return {name: cast(FactoredEnsemble, average.module) for name, average in averaged.items()}


def budget(domain: str) -> TrainingRecipe:
    """The reduced recipe of a domain's random data."""
    return replace(recipe_for(f"{domain}/random-v0", continuous=domain == "halfcheetah"), **BUDGETS[domain])


def rows_of(domain: str) -> dict[str, tuple[str, ...]]:
    """What each training of a domain is averaged by; it and its averages are rows."""
    return {UNCHANGED: tuple(AVERAGES)} | dict.fromkeys((*HORIZONS, FEATURES[domain][0]), ())


def trained(domain: str, change: str, seed: int) -> tuple[dict[str, FactoredEnsemble], float]:
    """Models by the name of their row, and the CPU seconds of their training."""
    spec, recipe = DOMAINS[domain], budget(domain)
    n_actions = int(spec.action_space.n) if isinstance(spec.action_space, spaces.Discrete) else 0
    transitions = load(f"persim/{domain}/random-v0", progress=False)
    model = _model_for(transitions, recipe, n_actions, seed, False, "factored")
    if spec.clips:
        model.obs_low.copy_(torch.from_numpy(spec.observation_space.low))
        model.obs_high.copy_(torch.from_numpy(spec.observation_space.high))
    name, features = FEATURES[domain]
    if change == name:
        model.state_encoder = Featured(model, recipe, features, torch.from_numpy(transitions.obs), seed)
    started = time.process_time()
    averages = train(model, transitions, recipe, HORIZONS.get(change, 1), rows_of(domain)[change], seed)
    return {change: model.eval(), **averages}, time.process_time() - started


def measure(log: RowLog, domains: Sequence[str], seeds: Sequence[int]) -> None:
    """Trains and measures what the log lacks."""
    jobs = [(domain, *names, seed) for domain in domains for seed in seeds for names in rows_of(domain).items()]
    for domain, change, averages, seed in tqdm(jobs, desc="trainings"):
        keys = [{"domain": domain, "change": name, "seed": seed} for name in (change, *averages)]
        if all(log.get(key) for key in keys):
            continue
        models, seconds = trained(domain, change, seed)
        test = load_policy(domain, TEST)
        for key in keys:
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
    seeds = sorted(set.intersection(*map(set, runs.values()))) if UNCHANGED in runs else []
    if not seeds:
        return ""
    recipe, usual = budget(domain), recipe_for(f"{domain}/random-v0", continuous=domain == "halfcheetah")
    of_seeds = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {' / '.join(seeds)}"
    lines = [
        f"## {domain}/random-v0\n\n{recipe.epochs} epochs of the recipe's {usual.epochs}; "
        f"members: {recipe.members}; {of_seeds}.\n",
        f"| change | {' | '.join(f'agent {a}' for a in TEST_AGENTS)} | 20 % better | 20 % worse | training, CPU s |",
        f"|---|{'---|' * (len(TEST_AGENTS) + 3)}",
    ]
    base = errors([runs[UNCHANGED][seed] for seed in seeds])
    for name, known in runs.items():
        now = errors([known[seed] for seed in seeds])
        cells = " | ".join(" / ".join(f"{error:.4f}" for error in column) for column in now.T)
        better, worse = (now <= (1 - CLEAR) * base).sum(), (now >= (1 + CLEAR) * base).sum()
        seconds = np.mean([float(known[seed]["seconds"]) for seed in seeds])
        lines.append(f"| {name} | {cells} | {better} of {now.size} | {worse} of {now.size} | {seconds:.0f} |")
    return "\n".join(lines) + "\n"


def errors(rows: Sequence[Mapping[str, str]]) -> NDArray[np.float64]:
    """RMSE by seed and agent, [seeds, agents]."""
    return np.array([[float(row[f"rmse_{agent}"]) for agent in TEST_AGENTS] for row in rows])


PAGE = """# Averaged weights, losses over several steps, physical features

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
