"""From logged data to a context-aware dynamics model on disk."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.baselines.cadm.config import FEATURES, CadmSettings, CadmShape, ObservationFeatures
from persim_gym.baselines.cadm.fit import CadmDiverged, fit_cadm
from persim_gym.baselines.cadm.simulator import CadmCard, CadmSimulator, is_cadm, load_cadm
from persim_gym.envs import DOMAINS
from persim_gym.logged_arrays import checked_complete
from persim_gym.paths import simulator_path, unfinished
from persim_gym.simulator.model_card import library_versions
from persim_gym.simulator.training.checkpoint import remove_checkpoints
from persim_gym.simulator.trusted_tasks import trust_in_this_process
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, EnvironmentSpec
from persim_gym.storage import CARD, replaceable
from persim_gym.transitions import LoggedData, Transitions

MAX_EPISODES = 10_000
"""Episodes of data on disk that are read into memory; larger data are sampled."""


def train_cadm(
    data: LoggedData,
    *,
    probabilistic: bool,
    settings: CadmSettings | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    name: str | None = None,
    spec: EnvironmentSpec | None = None,
    force: bool = False,
    progress: bool = True,
) -> CadmSimulator:
    """Trains Vanilla CaDM or PE-TS CaDM and writes it; an interrupted training goes on, a finished one is loaded.

    Args:
        data: Logged trajectories of many agents.
        probabilistic: Whether it is PE-TS CaDM.
        settings: Model and training; None for the defaults.
        seed: Source of all randomness.
        out: Folder; by default by name among the user's simulators.
        name: Its name; by default "cartpole/random-v0-cadm", after dataset and variant.
        spec: Spaces, time limit and task, `module:name`, of data of no domain of ours.
        force: Whether to train anew, and to replace another model that is in the folder.
        progress: Whether to show a progress bar.

    Returns:
        The model, as it is on disk.

    Raises:
        CadmDiverged: If the loss or a weight is not finite.
        ValueError: If the spec is missing or does not fit, its task is learned, or the folder holds something else.
    """
    kind = "pe-ts-cadm" if probabilistic else "cadm"
    settings = settings or CadmSettings()
    dataset = data.source.removeprefix("persim/")
    domain = dataset.partition("/")[0] if spec is None else ""
    name = name or f"{dataset}-{kind}"
    folder = replaceable(simulator_path(name) if out is None else Path(out))
    spec = _checked_spec(data, domain, spec)
    trust_in_this_process(spec.task)  # It is the caller's own.
    features, members = FEATURES.get(domain, ObservationFeatures()), settings.members if probabilistic else 1
    shape = CadmShape(data.obs_dim, spec.n_actions, data.action_dim, members, probabilistic, features)
    if (folder / CARD).is_file() and not force:
        wanted = {"kind": kind, "seed": seed, "settings": _as_json(settings), "shape": _as_json(shape)}
        return _finished(folder, {**wanted, "dataset_hash": data.content_hash(), "interface": spec.to_json()})
    steps = _steps_in_memory(data, spec, seed)
    stem = unfinished(f"{name}-{seed}", data.content_hash(), settings.to_json(), asdict(shape))
    checkpoint, started = Path(f"{stem}.safetensors"), time.perf_counter()
    try:
        model, error = fit_cadm(steps, shape, settings, seed=seed, checkpoint=checkpoint, progress=progress)
    except CadmDiverged:  # The same training would diverge again.
        remove_checkpoints(checkpoint)
        raise
    card = CadmCard(
        kind=kind,
        name=name,
        domain=domain,
        transitions=len(steps),
        settings=_as_json(settings),
        shape=_as_json(shape),
        seed=seed,
        training_seconds=round(time.perf_counter() - started, 1),
        validation_error=None if math.isnan(error) else error,
        interface=spec.to_json(),
        license="MIT" if domain else "not stated",
        **_provenance(data),
    )
    CadmSimulator(card, model, folder, *_sorted_starts(data)).save()
    remove_checkpoints(checkpoint)
    return load_cadm(folder)


def _finished(folder: Path, wanted: dict[str, Any]) -> CadmSimulator:
    """The model in a folder, whose card must hold the wanted values."""
    if not is_cadm(folder):
        raise ValueError(f"{folder} holds another kind of model; --force replaces it, --out goes elsewhere")
    found = load_cadm(folder)
    if others := [part for part, value in wanted.items() if vars(found.card)[part] != value]:
        raise ValueError(
            f"{folder} holds another model (different {', '.join(others)}); --force replaces it, --out goes elsewhere"
        )
    return found


def _sorted_starts(data: LoggedData) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Agents [E] and first observations [E, D] of the episodes, by agent."""
    agents, obs = data.starts()
    order = np.argsort(agents, kind="stable")
    return agents[order], obs[order]


def _provenance(data: LoggedData) -> dict[str, Any]:
    """What a card says of the data and the libraries."""
    return {
        "dataset": data.source,
        "dataset_hash": data.content_hash(),
        "n_agents": data.n_agents,
        "libraries": library_versions(),
    }


def _as_json(record: CadmSettings | CadmShape) -> dict[str, Any]:
    """Values as JSON gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return values


def _steps_in_memory(data: LoggedData, spec: EnvironmentSpec, seed: int) -> Transitions:
    """The data, or whole episodes of those that lie on disk.

    Raises:
        ValueError: If a discrete action is not one of the space, or all transitions lack a value.
    """
    steps = data.sample(MAX_EPISODES, seed)
    if steps.missing:
        steps = steps.select(checked_complete(steps.read([0]), data.source))
    if spec.n_actions and not 0 <= steps.action.min() <= steps.action.max() < spec.n_actions:
        raise ValueError(
            f"{data.source}: actions {steps.action.min()}–{steps.action.max()} are not 0–{spec.n_actions - 1}; give "
            "the spec of these data"
        )
    return steps


def _checked_spec(data: LoggedData, domain: str, spec: EnvironmentSpec | None) -> EnvironmentSpec:
    """Spaces, time limit and task of a training.

    Raises:
        ValueError: If they are not known, the task would have to be learned, or the data are of other sizes.
    """
    if spec is None:
        if domain not in DOMAINS:
            raise ValueError(
                f"{data.source} is no dataset of a domain here; give spec=EnvironmentSpec(...) of its spaces"
            )
        known = DOMAINS[domain]
        spec = EnvironmentSpec(known.observation_space, known.action_space, known.episode_steps, DOMAIN_TASK)
    elif spec.task in (LEARNED_TASK, DOMAIN_TASK):
        raise ValueError("CaDM learns no rewards; give a spec with your own task, module:name")
    sizes = spec.observation_space.shape[0], spec.action_dim
    if sizes != (data.obs_dim, data.action_dim):
        raise ValueError(
            f"{data.source} has observations of {data.obs_dim} and actions of {data.action_dim} components, not those "
            f"of {spec.observation_space} and {spec.action_space}; give the spec of these data"
        )
    return spec
