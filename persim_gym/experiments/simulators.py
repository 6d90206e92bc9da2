"""`persim train`: which data, which rank, and then a simulator on disk."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from persim_gym.datasets.episodes import interface_of_dataset
from persim_gym.datasets.load import load_for_training, open_dataset
from persim_gym.datasets.recipes import NAMESPACE, find_recipe
from persim_gym.experiments.figures import rank_figure
from persim_gym.experiments.runs import RowLog, run_jobs
from persim_gym.home import unfinished
from persim_gym.simulator.card import simulator_folder
from persim_gym.simulator.fit import fit
from persim_gym.simulator.interface import LEARNED, Interface
from persim_gym.simulator.model import FactoredEnsemble
from persim_gym.simulator.profile import one_step
from persim_gym.simulator.recipe import TrainingRecipe
from persim_gym.simulator.refine import finished
from persim_gym.simulator.transition_file import TransitionFile
from persim_gym.train import chosen_recipe, clipping, interface_of, train_simulator
from persim_gym.transitions import Transitions

RANKS = (3, 5, 10, 15, 20, 30)  # thesis appendix A.1
HELD_OUT = 0.2  # thesis appendix A.1
RESOLVED = 1e-3  # of a standard deviation of the change: smaller errors say nothing of the dynamics' rank
REFINED = 4  # rounds of `refine` at most: enough to tell ranks apart, and those of large ranks take long


class HeldOut(NamedTuple):
    """Error on held-out points.

    Attributes:
        rmse: Root mean square error, in standard deviations of each predicted quantity's change.
        standard_error: Its standard error, trajectories taken as independent.
    """

    rmse: float
    standard_error: float


@dataclass(frozen=True)
class Source:
    """Data to train on.

    Attributes:
        dataset_id: Minari id.
        domain: Name of the domain; empty for data of none.
        memory: GB that the data may take in memory; None for half of the machine's.
    """

    dataset_id: str
    domain: str
    memory: float | None = None

    @classmethod
    def named(cls, name: str, data: str | None, memory: float | None) -> "Source":
        """The data of a simulator: those given, else those it is named after, ours or any of Minari's."""
        ours = find_recipe(f"{NAMESPACE}/{name}") if data is None else find_recipe(data)
        if ours is not None:
            return cls(ours.dataset_id, ours.domain.name, memory)
        return cls(data or name, "", memory)

    def load(self) -> tuple[Transitions | TransitionFile, Interface | None]:
        """The transitions, and spaces and time limit where they belong to no domain."""
        dataset = open_dataset(self.dataset_id)
        memory = None if self.memory is None else self.memory * 1e9
        return load_for_training(dataset, memory), None if self.domain else interface_of_dataset(dataset)


def train_by_name(
    name: str,
    *,
    data: str | None = None,
    task: str = "",
    rank: str = "",
    recipe_name: str = "default",
    settings: Sequence[str] = (),
    variant: str = "factored",
    epochs: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    memory: float | None = None,
    license: str = "",
    folder: Path | None = None,
    progress: bool = True,
) -> Path:
    """Trains the simulator of a name; keywords as `train_simulator` and `persim train`.

    `settings` change fields of the recipe, see `TrainingRecipe.changed`.

    Raises:
        ValueError: If the rank is neither a positive number nor "auto", the variant has none, or as `train_simulator`.
    """
    if rank not in ("", "auto") and not (rank.isdigit() and int(rank)):
        raise ValueError(f'rank {rank!r} is neither a positive number nor "auto"')
    if rank and variant == "unfactorized":
        raise ValueError("an unfactorized simulator has no rank; leave --rank out")
    folder = simulator_folder(name, folder)  # what cannot be written is an error before the training
    source = Source.named(name, data, memory)
    transitions, interface = source.load()
    number, plot = (int(rank) if rank.isdigit() else None), []
    chosen = interface_of(source.domain, interface, task)
    recipe = chosen_recipe(source.domain, chosen, recipe_name, None, epochs, source.dataset_id).changed(settings)
    if rank == "auto":
        if isinstance(transitions, TransitionFile):
            raise ValueError("rank=auto holds data in memory; give a rank, or more memory")
        errors, log = rank_errors(
            source,
            recipe,
            content_hash=transitions.content_hash(),
            task=task,
            variant=variant,
            seed=seed,
            device=device,
        )
        number, enough = best_rank(errors)
        by_rank = {rank: tuple(error) for rank, error in errors.items()}
        plot = [rank_figure(by_rank, number, enough, name, log.with_suffix(".png")), log]
    written = train_simulator(
        transitions,
        name=name,
        domain=source.domain,
        interface=interface,
        task=task,
        recipe_name=" ".join([recipe_name, *settings]),
        recipe=recipe,
        rank=number,
        variant=variant,
        seed=seed,
        device=device,
        license=license,
        folder=folder,
        progress=progress,
    )
    for suffix in (".csv", ".png"):  # of an earlier training
        (written / f"ranks{suffix}").unlink(missing_ok=True)
    for path in plot:
        shutil.copy(path, written / f"ranks{path.suffix}")
    return written


def rank_errors(
    source: Source,
    recipe: TrainingRecipe,
    *,
    content_hash: str,
    task: str = "",
    variant: str = "factored",
    seed: int = 0,
    device: str = "cpu",
    ranks: tuple[int, ...] = RANKS,
) -> tuple[dict[int, HeldOut], Path]:
    """Error of each rank on held-out points of the trajectories; what is known from an earlier run is not done again.

    Args:
        source: The data.
        recipe: How to train; its rank does not matter.
        content_hash: Of the data, so that other data of that name are measured anew.
        task: As `train_simulator`, as the next three.
        variant: See there.
        seed: See there.
        device: See there.
        ranks: Ranks to try.

    Returns:
        The errors by rank, and the CSV file that they are kept in.

    Source: thesis appendix A.1.
    """
    options = content_hash, replace(recipe, rank=1, refine=min(recipe.refine, REFINED)).to_json(), task, variant
    stem = str(unfinished(f"ranks-{source.dataset_id}", *options))
    log = RowLog(Path(f"{stem}.csv"), ("rank", "seed"), ("held_out_error", "standard_error"))
    jobs = [{"rank": rank, "seed": seed} for rank in sorted(ranks, reverse=True)]  # the longest first
    constants = {"source": source, "recipe": recipe, "task": task, "variant": variant, "device": device, "stem": stem}
    rows = run_jobs(held_out_error, jobs, log, description="ranks", constants=constants)
    errors = {int(r["rank"]): HeldOut(float(r["held_out_error"]), float(r["standard_error"])) for r in reversed(rows)}
    return errors, log.path


def held_out_error(
    rank: int, seed: int, source: Source, recipe: TrainingRecipe, task: str, variant: str, device: str, stem: str
) -> dict[str, float]:
    """Trains on 80 % of the points and predicts the others; runs in a worker process, and resumes.

    Returns:
        The fields of `HeldOut`, as the log's columns.
    """
    transitions, interface = source.load()
    assert isinstance(transitions, Transitions)
    interface = interface_of(source.domain, interface, task)
    checkpoint = Path(f"{stem}-{rank}-{seed}.safetensors")
    held_out = np.random.default_rng([seed, 20]).random(len(transitions)) < HELD_OUT
    model = fit(
        transitions.select(~held_out),
        replace(recipe, rank=rank),
        n_actions=interface.n_actions,
        bounds=clipping(source.domain, interface),
        learn_task=interface.task == LEARNED,
        variant=variant,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        progress=False,
    )
    rounds = replace(recipe, refine=min(recipe.refine, REFINED))
    if rounds.refine and variant == "factored":
        model, _ = finished(model, transitions.select(~held_out), rounds, seed, clips=bool(source.domain))
    error = one_step_error(model, transitions.select(held_out))
    checkpoint.unlink(missing_ok=True)
    return {"held_out_error": error.rmse, "standard_error": error.standard_error}


def one_step_error(model: FactoredEnsemble, data: Transitions) -> HeldOut:
    """One-step error of the members' mean."""
    error, change = one_step(model, data)
    squares = np.square(error / np.maximum(change.std(axis=0, dtype=np.float64), 1e-8)).mean(axis=1)
    mean, (which, size) = squares.mean(), np.unique(data.trajectory, return_inverse=True, return_counts=True)[1:]
    excess = np.bincount(which, squares - mean)  # of each trajectory: its points are not independent
    spread = np.sqrt(np.square(excess).sum()) / size.sum()
    rmse = float(np.sqrt(mean))
    return HeldOut(rmse, float(spread / (2 * max(rmse, 1e-12))))


def best_rank(errors: dict[int, HeldOut]) -> tuple[int, float]:
    """The smallest rank whose error is within one standard error of the smallest, or at most `RESOLVED`.

    Where dynamics are learned as exactly as that, more ranks than they have only bring training to the end sooner.

    Returns:
        The rank, and the error that is enough.

    Raises:
        ValueError: If no error is finite.
    """
    finite = {rank: error for rank, error in sorted(errors.items()) if np.isfinite(error.rmse)}
    if not finite:
        raise ValueError("no rank has a finite error on held-out points; lower the recipe's learning_rate")
    best = min(finite.values(), key=lambda error: error.rmse)
    enough = max(best.rmse + best.standard_error, RESOLVED)
    return next(rank for rank, error in finite.items() if error.rmse <= enough), enough
