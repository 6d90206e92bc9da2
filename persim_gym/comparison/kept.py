"""How wide intervals have to be, kept beside the simulator: it is measured once, not by every comparison."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from persim_gym.comparison.intervals import Widening
from persim_gym.comparison.setting import Sampling, Setting
from persim_gym.paths import ASSETS, persim_home, unwritable_part
from persim_gym.simulator.simulator import Simulator
from persim_gym.spec import LEARNED_TASK
from persim_gym.storage import from_plain, read_json, reading, write_json
from persim_gym.transitions import Transitions
from persim_gym.version import __version__

INTERVALS = "intervals.json"
"""The file. It is stale where it names other weights than are beside it."""
MAX_KEPT = 50
"""Measurements in a file; newer ones replace the oldest."""


def measured_under(setting: Setting, sampling: Sampling, logs: Sequence[Transitions]) -> str:
    """A mark of all that the width of intervals depends on, beside the weights.

    Args:
        setting: The simulator.
        sampling: How logs are replayed.
        logs: Those that are replayed. What the task makes of them is part of the mark, since a user's own task is code
            that may change.
    """
    model, kind = setting.model, setting.noise(sampling.noise)
    meant = sampling._replace(episodes=1, steps=sampling.limit(model.episode_steps), noise=kind)
    mark = hashlib.sha256(json.dumps([__version__, model.card.dataset_hash, meant]).encode())
    for log in logs:
        ends = log.terminated if model.spec.task == LEARNED_TASK else model.task.terminated(log.next_obs)
        mark.update(setting.rewards(log).tobytes() + np.asarray(ends, dtype=np.bool_).tobytes())
    if kind == "gaussian" and isinstance(model, Simulator):
        for name, values in sorted(model.known_noise().to_arrays().items()):
            mark.update(name.encode() + values.tobytes())
    return mark.hexdigest()[:16]


def kept(setting: Setting, mark: str) -> Widening | None:
    """What was measured under the conditions of a mark; None where nothing is kept, or nothing that can be read."""
    stored = _stored(setting).get(mark)
    with suppress(ValueError):
        return None if stored is None else from_plain(Widening, stored)
    return None


def keep(setting: Setting, mark: str, widening: Widening) -> None:
    """Keeps what was measured under the conditions of a mark; nothing where no file can be written."""
    file = _file(setting)
    others = {name: one for name, one in _stored(setting).items() if name != mark}
    newest = dict(list(others.items())[1 - MAX_KEPT :])
    # The measurement is at hand and will be made again: a full disk is no reason to lose the comparison.
    with suppress(OSError, ValueError):
        write_json(file, {"weights": setting.model.card.sha256, "measured": {**newest, mark: asdict(widening)}})


def _stored(setting: Setting) -> dict[str, Any]:
    """What the file holds of these weights; nothing where it cannot be read, so that it is written anew."""
    file = _file(setting)
    with suppress(ValueError), reading(file):
        stored = read_json(file)
        if stored["weights"] == setting.model.card.sha256:
            return dict(stored["measured"])
    return {}


def _file(setting: Setting) -> Path:
    """Beside the simulator; among the user's own files where that is bundled, or its folder cannot be written to."""
    folder = Path(setting.folder)
    if folder.is_relative_to(ASSETS.resolve()) or unwritable_part(folder):
        folder = persim_home() / "intervals" / setting.model.card.sha256[:16]
    return folder / INTERVALS
