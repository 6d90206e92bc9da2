"""Trained baselines on disk, acting as Stable-Baselines3's policies do."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.baselines.offline import action_bounds
from persim_gym.simulator.model.precision import without_autocast
from persim_gym.simulator.model.weights import with_weights
from persim_gym.spec import EnvironmentSpec
from persim_gym.storage import CARD, WEIGHTS, checked_array, from_plain, write_folder

BASELINE = "baseline"
"""Kind of the folder, on its card."""
BASELINE_CARD_FORMAT = 1
_OBS_MEAN, _OBS_STD = "obs_mean", "obs_std"


@dataclass(frozen=True)
class BaselineCard:
    """What a trained baseline is and where it comes from.

    Attributes:
        method: A key of `BASELINES`.
        domain: Name of the domain of its data; empty for data of none.
        dataset: Minari id of its data.
        dataset_hash: Content hash of its data.
        agent: Whose transitions it was trained on; None for those of all agents.
        transitions: How many these are.
        settings: Of the training.
        seed: Of the training.
        training_seconds: Wall-clock time of the training.
        interface: Spaces and time limit (see `EnvironmentSpec`).
        libraries: Versions that trained it.
        format: Version of this card.
        sha256: Of the weights; filled in when written.
    """

    method: str
    domain: str
    dataset: str
    dataset_hash: str
    agent: int | None
    transitions: int
    settings: dict[str, Any]
    seed: int
    training_seconds: float
    interface: dict[str, Any]
    libraries: dict[str, str]
    format: int = BASELINE_CARD_FORMAT
    sha256: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What two trainings of the same have in common."""
        names = ("method", "dataset_hash", "agent", "settings", "seed")
        return {name: getattr(self, name) for name in names}


class ActingModule(Protocol):
    """A network that acts; actions as in `persim_gym.baselines.offline.Batch`, without the last axis where discrete."""

    def act(self, obs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Actions of observations, [B, D] to [B] or [B, A]; those without a generator are not random."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights."""

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> Any:
        """Takes weights over."""


class BaselinePolicy:
    """A trained policy. It sees observations alone: neither the agent's number nor covariates.

    Attributes:
        card: Where it comes from.
        spec: Spaces and time limit.
    """

    def __init__(self, module: ActingModule, card: BaselineCard, obs_mean: Tensor, obs_std: Tensor) -> None:
        """Puts a policy together.

        Args:
            module: Its networks.
            card: Where it comes from; its seed is that of random actions, too.
            obs_mean: What is subtracted from observations, [D].
            obs_std: What they are then divided by, [D].
        """
        self.card, self.spec = card, EnvironmentSpec.from_json(card.interface)
        self._module, self._obs_mean, self._obs_std = module, obs_mean, obs_std
        self._generator = torch.Generator().manual_seed(card.seed)

    def network(self) -> "BaselineNetwork":
        """The policy as one torch module without anything random: observations [B, D] to actions in the bounds."""
        return BaselineNetwork(self._module, self.spec, self._obs_mean, self._obs_std)

    @property
    def usual(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of the observations that it was trained on, [D] each."""
        return self._obs_mean.numpy(), self._obs_std.numpy()

    @without_autocast
    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], None]:
        """Actions, as Stable-Baselines3's `predict` returns them.

        Args:
            observation: Observations, [D] or [B, D].
            state: Ignored; there is no memory.
            episode_start: Ignored likewise.
            deterministic: Whether the same observation always gets the same action.

        Returns:
            Actions, int64 [] or [B] (Discrete), float32 [A] or [B, A] (Box); and None.

        Raises:
            ValueError: If the observations have another size than the policy's.
        """
        obs = np.asarray(observation, dtype=np.float32)
        size = len(self._obs_mean)
        if obs.ndim not in (1, 2) or obs.shape[-1] != size:
            raise ValueError(f"observations have shape {obs.shape}; this policy takes ({size},) or (B, {size})")
        scaled = (torch.from_numpy(np.atleast_2d(obs)) - self._obs_mean) / self._obs_std
        actions = self._module.act(scaled, None if deterministic else self._generator)
        if isinstance(space := self.spec.action_space, spaces.Box):
            middle, half = action_bounds(space)
            chosen = np.clip((middle + half * actions).numpy(), space.low, space.high)
        else:
            chosen = actions.numpy()
        return (np.asarray(chosen[0]) if obs.ndim == 1 else chosen), None

    def save(self, folder: Path) -> None:
        """Writes card and weights; errors as `persim_gym.storage.replaceable`."""
        scales = {_OBS_MEAN: self._obs_mean, _OBS_STD: self._obs_std}
        tensors = {name: tensor.numpy() for name, tensor in {**self._module.state_dict(), **scales}.items()}
        write_folder(folder, {"kind": BASELINE, **asdict(self.card)}, tensors)


class BaselineNetwork(nn.Module):
    """A policy from observations to actions, scaling and bounds inside; what an ONNX file of it computes."""

    obs_mean: Tensor
    obs_std: Tensor
    low: Tensor
    high: Tensor
    middle: Tensor
    reach: Tensor

    def __init__(self, module: ActingModule, spec: EnvironmentSpec, obs_mean: Tensor, obs_std: Tensor) -> None:
        """Puts it together; arguments as `BaselinePolicy`, and its spaces."""
        super().__init__()
        self.module, self._discrete = module, bool(spec.n_actions)
        self.register_buffer("obs_mean", obs_mean)
        self.register_buffer("obs_std", obs_std)
        if isinstance(space := spec.action_space, spaces.Box):
            self.register_buffer("low", torch.from_numpy(space.low))
            self.register_buffer("high", torch.from_numpy(space.high))
            middle, reach = action_bounds(space)
            self.register_buffer("middle", middle)
            self.register_buffer("reach", reach)

    def forward(self, obs: Tensor) -> Tensor:
        """Actions, [B, D] to int64 [B] or float32 [B, A]."""
        actions = self.module.act((obs - self.obs_mean) / self.obs_std)
        if self._discrete:
            return actions
        return (self.middle + self.reach * actions).clamp(self.low, self.high)


def read_baseline_card(folder: Path, stored: Mapping[str, Any]) -> BaselineCard:
    """The card of a folder, checked.

    Raises:
        ValueError: If it is none of a baseline, or of another version.
    """
    others = {name: value for name, value in stored.items() if name != "kind"}
    if stored.get("kind") != BASELINE or others.get("format") != BASELINE_CARD_FORMAT:
        raise ValueError(
            f"{folder / CARD} is not a baseline's card of format {BASELINE_CARD_FORMAT}; give another folder, or train "
            "the baseline again with this version"
        )
    card = from_plain(BaselineCard, others)
    EnvironmentSpec.from_json(card.interface)
    return card


def read_policy_weights(
    make: Callable[[], Any], card: BaselineCard, tensors: Mapping[str, NDArray[Any]]
) -> BaselinePolicy:
    """The policy of a card and its weights.

    Args:
        make: Makes the networks of the card's settings.
        card: The card.
        tensors: The weights.

    Raises:
        ValueError: If a weight is missing, of another shape, or not finite.
    """
    (size,) = EnvironmentSpec.from_json(card.interface).observation_space.shape
    scales = {name: checked_array(name, tensors.get(name), (size,), "f", WEIGHTS) for name in (_OBS_MEAN, _OBS_STD)}
    weights = {
        name: torch.from_numpy(checked_array(name, values, values.shape, "f", WEIGHTS))
        for name, values in tensors.items()
        if name not in scales
    }
    mean, std = (torch.from_numpy(scales[name]) for name in (_OBS_MEAN, _OBS_STD))
    return BaselinePolicy(with_weights(make, weights), card, mean, std)
