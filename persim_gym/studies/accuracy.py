"""Trains simulators by the default recipes and changes of them, and measures their prediction errors; resumable."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from persim_gym.datasets import load
from persim_gym.datasets.behavior.policies import TEST, PolicyNetwork, load_behavior_policy
from persim_gym.datasets.registry import EPSILONS, NAMESPACE, THESIS_DOMAINS
from persim_gym.envs import DOMAINS
from persim_gym.evaluation.prediction import prediction_error
from persim_gym.evaluation.published import TEST_AGENTS
from persim_gym.jobs import JobPlace, RowLog, run_jobs
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.storage import CARD, reading
from persim_gym.workflows.train import train
from persim_gym.workflows.training_setup import recipe_for

DEFAULT, THESIS_RECIPE = "default", "thesis"
# One member alone, because the recipe's 300 epochs take most of an hour a member.
ONE_THESIS = "one member, the thesis's recipe"
LOGGING_POLICIES = tuple(EPSILONS)
ACCURACY_JOB = ("domain", "policy", "variation", "seed")
MEASURES = ("rmse", "r2")
ACCURACY_COLUMNS = tuple(f"{measure}_{agent}" for measure in MEASURES for agent in TEST_AGENTS)

_SILU: dict[str, Any] = {
    "rank": 30,
    "state_layers": (256,) * 3,
    "action_layers": (64, 64),
    "activation": "silu",
    "agent_mean": 1.0,
    "agent_std": 0.3,
    "batch": 256,
    "schedule": "one-cycle",
}
"""As accurate as HalfCheetah's default recipe, but robots that are planned for in it get stuck."""

_WALLS: dict[str, dict[str, Any]] = {
    "no rounds in closed form": {"refine": 0},
    "walls learned as all else is": {"walls": False},
    "walls learned as all else is, no rounds in closed form": {"walls": False, "refine": 0},
}
CHANGES: dict[tuple[str, str], dict[str, dict[str, Any]]] = {
    ("mountaincar", "random"): {
        **_WALLS,
        "ReLU": {"activation": "relu"},
        "no standardisation": {"standardize": False, "learning_rate": 1e-3},
        "no pull": {"pull": 0.0},
        "rank 5": {"rank": 5},
        "256 wide": {"state_layers": (256,)},
        "batch 512": {"batch": 512},
        "agents started at N(1, 0.03)": {"agent_std": 0.03},
        "a constant learning rate of 1e-3": {"schedule": "halving", "learning_rate": 1e-3},
    },
    ("mountaincar", "pure"): {
        **_WALLS,
        "an interaction penalty of 1": {"interaction": 1.0},
        "a tenth of the pull": {"pull": 3e-4},
        "rank 5": {"rank": 5},
        "a third of the samples": {"samples": 1_700_000},
        "three times the samples": {"samples": 15_000_000},
    },
    ("cartpole", "random"): {
        "ReLU": {"activation": "relu"},
        "no standardisation": {"standardize": False},
        "no pull": {"pull": 0.0},
        "ten times the pull": {"pull": 0.03},
        "agents started at N(1, 0.03)": {"agent_std": 0.03},
        "batch 256": {"batch": 256},
        "rank 8": {"rank": 8},
        "256 wide": {"state_layers": (256,)},
        "no rounds in closed form": {"refine": 0},
        "four rounds in closed form": {"refine": 4},
        "a constant learning rate of 1e-3": {"schedule": "halving", "learning_rate": 1e-3},
    },
    ("halfcheetah", "random"): {
        "32 epochs": {"epochs": 32, "halve_every": 16},
        "one member": {"members": 1},
        "one member, no noise": {"members": 1, "noise": 0.0},
        "one member, SiLU units": {"members": 1, "activation": "silu"},
        "one member, agents started at N(1, 0.3)": {"members": 1, "agent_mean": 1.0, "agent_std": 0.3},
        "SiLU, rank 30, one-cycle": _SILU,
        "SiLU, rank 30, one-cycle, one member": {**_SILU, "members": 1},
        "SiLU, rank 30, one-cycle, one member, no noise": {**_SILU, "members": 1, "noise": 0.0},
        "SiLU, rank 30, one-cycle, one member, weight decay 0.3": {**_SILU, "members": 1, "weight_decay": 0.3},
        "SiLU, rank 30, one-cycle, one member, linear actions": {**_SILU, "members": 1, "action_layers": ()},
        "SiLU, rank 30, one-cycle, one member, two layers": {**_SILU, "members": 1, "state_layers": (256, 256)},
        ONE_THESIS: {**asdict(recipe_for("halfcheetah", "thesis")), "members": 1},
    },
}
"""What an ablation changes in the default recipe of a dataset, by (domain, policy) and name."""


def varied_recipe(domain: str, policy: str, variation: str) -> TrainingRecipe:
    """The recipe of a variation: "default", "thesis", or a key of `CHANGES`.

    Raises:
        ValueError: If there is no such variation.
    """
    name = f"{domain}/{policy}-v0"
    if variation in (DEFAULT, THESIS_RECIPE):
        return recipe_for(name, variation)
    changes = CHANGES.get((domain, policy), {})
    if variation not in changes:
        raise ValueError(
            f"no variation {variation!r} of {name}; known: {DEFAULT}, {THESIS_RECIPE}, {', '.join(changes)}"
        )
    return replace(recipe_for(name, DEFAULT), **changes[variation])


def study_simulator_folder(root: Path, domain: str, policy: str, variation: str, seed: int) -> Path:
    """Where the simulator of a row is kept, under a folder of simulators."""
    return root / domain / f"{policy}-v0" / f"{variation.replace(' ', '-')}-{seed}"


def agent_errors(simulator: Simulator, domain: str, test: PolicyNetwork, seed: int = 0) -> dict[str, float]:
    """Mean RMSE and median R² of each test agent under a test policy, by `ACCURACY_COLUMNS`.

    Args:
        simulator: The simulator.
        domain: Name of its domain.
        test: Chooses the actions.
        seed: Of the initial states.
    """
    row: dict[str, float] = {}
    for agent in TEST_AGENTS:
        error = prediction_error(simulator.dynamics(agent), DOMAINS[domain], agent, test, seed=seed)
        row |= {f"rmse_{agent}": error.mean_rmse, f"r2_{agent}": error.median_r2}
    return row


def train_and_measure(domain: str, policy: str, variation: str, seed: int, folder: Path) -> dict[str, float]:
    """Trains one simulator and measures it; runs in a worker process.

    Args:
        domain: Name of the domain.
        policy: Logging policy of the dataset.
        variation: As `varied_recipe`.
        seed: Of the training.
        folder: Of all simulators.

    Returns:
        Mean RMSE and median R² of each test agent, and the seconds of the training.
    """
    own = study_simulator_folder(folder, domain, policy, variation, seed)
    recipe = varied_recipe(domain, policy, variation)
    transitions = load(f"{NAMESPACE}/{domain}/{policy}-v0", progress=False)
    known = (own / CARD).is_file() and load_simulator(str(own)).card
    size, wanted = len(transitions), (transitions.content_hash(), recipe.for_data(len(transitions)))
    if not known or (known.dataset_hash, TrainingRecipe.from_json(known.recipe).for_data(size)) != wanted:
        train(
            transitions,
            name=f"{domain}/{policy}-v0",
            domain=domain,
            recipe=recipe,
            recipe_name=variation,
            seed=seed,
            out=own,
            progress=False,
        )
    simulator = load_simulator(str(own))
    return {
        **agent_errors(simulator, domain, load_behavior_policy(domain, TEST), seed=seed),
        "seconds": simulator.card.training_seconds,
    }


def run_accuracy(
    domains: Sequence[str],
    policies: Sequence[str],
    out: Path,
    *,
    variations: Sequence[str] = (DEFAULT,),
    seeds: Sequence[int] = (0,),
    **place: Unpack[JobPlace],
) -> list[dict[str, str]]:
    """Trains and measures all combinations; what is in `out` already is not done again.

    Args:
        domains: Names of domains.
        policies: Logging policies.
        out: Folder of `accuracy.csv` and of the simulators.
        variations: As `varied_recipe`; "all" stands for every one that a dataset has.
        seeds: Of the trainings.
        **place: See `JobPlace`.

    Raises:
        ValueError: If a domain, a policy or a variation is unknown.
    """
    jobs = [
        {"domain": domain, "policy": policy, "variation": variation, "seed": seed}
        for domain in domains
        for policy in policies
        for variation in _variation_names(domain, policy, variations)
        for seed in seeds
    ]
    for job in jobs:
        if job["domain"] not in THESIS_DOMAINS or job["policy"] not in LOGGING_POLICIES:
            known = f"domains {', '.join(THESIS_DOMAINS)}; policies {', '.join(LOGGING_POLICIES)}"
            raise ValueError(f"the thesis has no errors of {job['domain']}/{job['policy']}; known: {known}")
        varied_recipe(str(job["domain"]), str(job["policy"]), str(job["variation"]))
    log = RowLog(out / "accuracy.csv", ACCURACY_JOB, (*ACCURACY_COLUMNS, "seconds"))
    return run_jobs(
        train_and_measure,
        jobs,
        log,
        description="simulators",
        folder=out / "simulators",
        reads=lambda job: [study_simulator_folder(Path(), **job).as_posix()],
        **place,
    )


def _variation_names(domain: str, policy: str, variations: Iterable[str]) -> list[str]:
    every = [DEFAULT, *CHANGES.get((domain, policy), {})]
    return [name for v in variations for name in (every if v == "all" else [v])]


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of an `accuracy.csv`.

    Raises:
        ValueError: If there is none.
    """
    if not path.is_file():
        raise ValueError(f"no {path}; run `persim study accuracy` first")
    with (
        reading(path, "remove it, and run `persim study accuracy` again"),
        path.open(newline="", encoding="utf-8") as file,
    ):
        return list(csv.DictReader(file))
