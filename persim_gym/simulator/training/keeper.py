"""Keeps the state of gradient steps in a checkpoint while they are taken, and goes on from there."""

import json
import time
from pathlib import Path

import torch
from torch import Tensor

from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.training.checkpoint import START_ANEW, read_checkpoint, write_checkpoint
from persim_gym.simulator.training.engine import EnsembleTraining
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.storage import reading
from persim_gym.transitions import LoggedData

CHECKPOINT_SECONDS = 20.0


class Keeper:
    """Keeps the state of a training in a file: every `CHECKPOINT_SECONDS`, and when it ends or is cut off.

    What is kept is the last whole part of an epoch: one that was cut off leaves half of its updates.
    """

    def __init__(self, path: Path | None, identity: str, model: FactoredEnsemble, training: EnsembleTraining) -> None:
        """Keeps a training in `path`, or nowhere if that is None; `identity` says which training it is."""
        self._path, self._identity, self._model, self._training = path, identity, model, training
        self._noted: tuple[int, dict[str, Tensor]] | None = None
        self._written_at = time.monotonic()

    def note(self, unit: int, last: bool) -> None:
        """Takes a copy of all that training goes on from after `unit` parts, and writes it where that is due."""
        if self._path is None:
            return
        state = {f"model/{name}": value.contiguous().clone() for name, value in self._model.state_dict().items()}
        state |= {f"engine/{name}": value.clone() for name, value in self._training.state().items()}
        self._noted = unit, state | {"count": torch.tensor(self._training.count)}
        if last or time.monotonic() - self._written_at >= CHECKPOINT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was noted and is not in the file yet."""
        if self._path is None or self._noted is None:
            return
        unit, state = self._noted
        write_checkpoint(self._path, state, {"identity": self._identity, "epoch": str(unit)})
        self._noted, self._written_at = None, time.monotonic()

    def resume(self) -> int:
        """Loads the file where there is one; returns the number of parts done.

        Raises:
            ValueError: If it is of another training, or cannot be read.
        """
        path = self._path
        if path is None or not path.exists():
            return 0
        try:
            tensors, metadata = read_checkpoint(path)
        except FileNotFoundError:  # Another process that trained the same has finished meanwhile.
            return 0
        if metadata.get("identity") != self._identity:
            raise ValueError(f"checkpoint {path} is of other data, recipe, seed or options; delete it to start anew")
        state = {f"engine/{name}": values for name, values in self._training.state().items()}
        stored = {name: values.shape for name, values in tensors.items() if name.startswith("engine/")}
        if stored != {name: values.shape for name, values in state.items()}:  # Each device's engine keeps its own.
            raise ValueError(f"checkpoint {path} was made on another device; go on there, or delete it to start anew")
        own = {name.removeprefix("model/"): values for name, values in tensors.items() if name.startswith("model/")}
        with reading(f"checkpoint {path}", START_ANEW):
            self._model.load_state_dict(own)
            for name, values in state.items():
                values.copy_(tensors[name])
            self._training.count = int(tensors["count"])
            return int(metadata["epoch"])


def training_identity(
    data: LoggedData, recipe: TrainingRecipe, seed: int, model: FactoredEnsemble, n_actions: int, parts: int
) -> str:
    """What a checkpoint must agree in with the training that goes on from it."""
    return json.dumps(
        {
            "data": data.content_hash(),
            "n_agents": data.n_agents,
            "recipe": recipe.to_json(),
            "seed": seed,
            "n_actions": n_actions,
            "bounds": [model.obs_low.tolist(), model.obs_high.tolist()],
            "learn_task": model.config.extra_dim > 0,
            "variant": model.config.variant,
            "parts": parts,
            **({"context": model.config.context} if model.config.context else {}),
        },
        sort_keys=True,
    )
