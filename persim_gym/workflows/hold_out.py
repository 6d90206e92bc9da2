"""Trains on a part of the data, and measures on the rest how far ahead a simulator of them predicts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from persim_gym.evaluation.hold_out import DataParts, follows, hold_out, horizons, rollouts
from persim_gym.evaluation.horizons import (
    LINEAR,
    NO_CHANGE,
    SIMULATOR,
    UNPERSONALIZED,
    HorizonReport,
    by_error,
    horizon_errors,
    no_change,
    plain,
    roll_out,
    squared_errors,
)
from persim_gym.evaluation.linear import LinearModels
from persim_gym.evaluation.traces import Trace, bands_along
from persim_gym.simulator.diagnostics.curves import watching
from persim_gym.simulator.diagnostics.measure_noise import MeasuredNoise, measured_noise
from persim_gym.simulator.diagnostics.open_loop import Windows
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.inference.personalize import personalized
from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.simulator import Simulator
from persim_gym.simulator.training.trainer import train_model
from persim_gym.simulator.training.watch import Watch, unwatched
from persim_gym.transitions import Transitions
from persim_gym.workflows.build_simulator import simulator_of
from persim_gym.workflows.training_setup import TrainingSetup

TRAININGS = 3
"""With the simulator itself, where the simulator is a personalized one."""


class HeldOutErrors(NamedTuple):
    """What was measured.

    Attributes:
        report: Errors by horizon.
        traces: Trajectories of two agents with predictions and bands.
        checkpoints: Of the trainings, to be removed once the simulator is safe.
        noise: Noise of transitions and the width of bands; None of other variants.
    """

    report: HorizonReport
    traces: list[Trace]
    checkpoints: list[Path]
    noise: MeasuredNoise | None = None


def held_out_errors(setup: TrainingSetup, progress: bool = True) -> HeldOutErrors | None:
    """Trains on what is left when ends of trajectories and a tenth of the agents are held out, and measures on these.

    Args:
        setup: The training, of data of no domain.
        progress: Whether to show progress bars.

    Returns:
        What was measured; None where data are on disk, or too few to hold anything out.
    """
    if not setup.data.in_memory:
        return None
    parts = hold_out(setup.data.sample(0), setup.seed, agents=setup.variant == "factored")
    if parts.later is None and parts.strangers_later is None:
        return None
    kept = replace(setup, data=parts.kept)
    trainings = TRAININGS if setup.variant != "unpersonalized" else TRAININGS - 1
    left = f"{len(parts.kept):,} of {len(setup.data):,} transitions"
    if progress:
        tqdm.write(f"training 1 of {trainings}: on {left}, to measure errors on the others (--no-holdout skips it)")
    rest = parts.later if parts.later is not None else parts.kept
    with watching(setup.curves("held-out"), rest, setup.spec.predicted_names, setup.seed) as watch:
        model, beliefs = trained(kept, progress, watch=watch)
    checkpoints, shared = [kept.checkpoint], None
    if trainings == TRAININGS:
        if progress:
            tqdm.write(f"training 2 of {trainings}: on the same, one simulator for all agents to compare with")
        plain_setup = replace(kept, variant="unpersonalized")
        shared, _ = trained(plain_setup, progress)
        checkpoints.append(plain_setup.checkpoint)
    if progress:
        tqdm.write(f"training {trainings} of {trainings}: the simulator, on all {len(setup.data):,} transitions")
    noise = _noise(kept, parts, model, beliefs)
    report, traces = _measured(kept, parts, model, beliefs, shared, noise)
    return HeldOutErrors(report, traces, checkpoints, noise)


def _noise(
    setup: TrainingSetup, parts: DataParts, model: FactoredEnsemble, beliefs: FactorPosterior | None
) -> MeasuredNoise | None:
    """Noise and the width of bands of the ends of trajectories that were held out."""
    if parts.later is None or beliefs is None:
        return None
    windows = _windows(parts.later, setup.spec.layout.present)
    integers = setup.spec.labels.integer_columns
    return measured_noise(model, beliefs, parts.later, integers, windows=windows, seed=setup.seed)


def trained(
    setup: TrainingSetup, progress: bool, checkpoint: Path | None = None, watch: Watch = unwatched
) -> tuple[FactoredEnsemble, FactorPosterior | None]:
    """Trains what was resolved, from its checkpoint on; None for the setup's own."""
    return train_model(
        setup.data,
        setup.recipe,
        setup.problem,
        variant=setup.variant,
        seed=setup.seed,
        device=setup.device,
        checkpoint=checkpoint or setup.checkpoint,
        progress=progress,
        watch=watch,
    )


def _measured(
    setup: TrainingSetup,
    parts: DataParts,
    model: FactoredEnsemble,
    beliefs: FactorPosterior | None,
    shared: FactoredEnsemble | None,
    noise: MeasuredNoise | None,
) -> tuple[HorizonReport, list[Trace]]:
    """Errors on both parts that were held out, and trajectories of the median and the worst agent."""
    n_actions, layout, kept = setup.spec.n_actions, setup.spec.layout, parts.kept
    names = setup.spec.predicted_names[: layout.learned]
    unit = np.maximum(np.nanstd(kept.next_obs[:, : layout.learned], axis=0, dtype=np.float64), 1e-6)
    simulator, later, strangers = simulator_of(setup, model, beliefs, {}), None, None
    traces, ordered = list[Trace](), list[int]()
    if parts.later is not None:
        windows = _windows(parts.later, layout.present)
        linear = LinearModels.fit(kept, n_actions, kept, layout)
        errors = _errors(windows, model, windows.agent, linear, shared)
        later = horizon_errors(windows, errors, unit)
        ordered = by_error(windows, errors[SIMULATOR], unit)
        traces = _traces(setup, parts.later, simulator, noise, ordered)
    if parts.strangers is not None and parts.strangers_later is not None and beliefs is not None:
        windows = _windows(parts.strangers_later, layout.present)
        known, first = model.config.n_agents, parts.strangers
        numbers, evidence = np.unique(first.agent), None
        if simulator.static is not None:
            static = {name: [values[n] for n in numbers.tolist()] for name, values in setup.static.items()}
            evidence = simulator.static.evidence(static, len(numbers))
        told, _ = personalized(model, beliefs, first, evidence)
        places = known + np.searchsorted(numbers, windows.agent)
        linear = LinearModels.fit(first, n_actions, kept, layout)
        strangers = horizon_errors(windows, _errors(windows, told, places, linear, shared), unit)
    report = HorizonReport(
        columns=tuple(names),
        unit=tuple(plain(x) or 1.0 for x in unit),
        later=later,
        strangers=strangers,
        said=tuple(parts.said),
        median=traces[0].agent if traces else "",
        worst=traces[-1].agent if traces else "",
    )
    return report, traces


def _windows(data: Transitions, present: int) -> Windows:
    """Rollouts as long as the longest horizon that enough of them reach."""
    windows = rollouts(data, present)
    steps = horizons(windows)[-1]
    return replace(windows, actions=windows.actions[:, :steps], following=windows.following[:, :steps])


def _errors(
    windows: Windows,
    model: FactoredEnsemble,
    agents: NDArray[np.int64],
    linear: LinearModels,
    shared: FactoredEnsemble | None,
) -> Mapping[str, NDArray[np.float64]]:
    """Squared errors of each kind of prediction, [B, T, L]; `agents` are the windows' in the model, [B]."""
    members, held = model.config.members, model.config.held
    predicted = {
        SIMULATOR: roll_out(BatchDynamics(model, agents.tolist()), windows, members, held),
        NO_CHANGE: roll_out(no_change, windows),
        LINEAR: roll_out(linear.bound(windows.agent), windows, 1, held),
    }
    if shared is not None:
        predicted[UNPERSONALIZED] = roll_out(BatchDynamics(shared, [0] * len(agents)), windows, members, held)
    learned = linear.layout.learned
    return {kind: squared_errors(windows, guess, learned) for kind, guess in predicted.items()}


def _traces(
    setup: TrainingSetup,
    later: Transitions,
    simulator: Simulator,
    noise: MeasuredNoise | None,
    ordered: list[int],
) -> list[Trace]:
    """The longest run of the median and of the worst agent of `ordered`."""
    if noise is not None:
        simulator = replace(simulator, noise=noise.noise, band_scale=noise.band_scale)
    layout = setup.spec.layout
    runs = np.cumsum(~follows(later, layout.present))
    names, found = tuple(setup.spec.predicted_names[: layout.learned]), []
    for which, agent in {"median": ordered[(len(ordered) - 1) // 2], "worst": ordered[-1]}.items():
        own = runs[later.agent == agent]
        rows: Any = np.flatnonzero(runs == np.bincount(own).argmax())
        bands = bands_along(simulator, agent, later.obs[rows[0]], later.action[rows], later.next_obs[rows])
        logged = later.next_obs[rows, : layout.learned].astype(np.float64)
        found.append(Trace(which, simulator.agent_name(agent), names, logged, *bands))
    return found
