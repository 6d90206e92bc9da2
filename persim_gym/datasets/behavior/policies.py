"""Logging and test policies: small trained networks, kept as safetensors with a JSON card, evaluated in NumPy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import flatdim
from numpy.typing import NDArray

from persim_gym.envs import Domain
from persim_gym.envs.hetero import domain_of
from persim_gym.envs.spaces import random_actions
from persim_gym.paths import ASSETS, persim_home
from persim_gym.storage import CARD, WEIGHTS, checked_array, from_plain, read_folder, reading, restored, write_folder

NetworkLayers: TypeAlias = tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
"""Weight [out, in] and bias [out] of each linear layer, as torch keeps them."""

TEST = "test"
"""Name of the policy that acts in the prediction-error protocol; the loggers are `logger-0`, `logger-1`, …"""


class MissingPolicyError(KeyError):
    """A policy that is neither bundled nor trained by the user."""

    def __str__(self) -> str:
        """The message as it is; KeyError would quote it."""
        return str(self.args[0])


@dataclass(frozen=True)
class PolicyCard:
    """How a policy was trained and what it earns.

    Attributes:
        domain: Name of the domain.
        name: `logger-0` … or `test`.
        algorithm: DQN, TD3 or SAC, of Stable-Baselines3.
        hyperparameters: Its keywords, those left out being its defaults.
        covariates: Of the agent it was trained on.
        threshold: Lowest and highest mean return at which training stops; no upper bound if None.
        steps: Environment steps of training.
        seconds: Time spent training, over all sessions.
        seed: Seed of the training.
        mean_return: Undiscounted return on the training agent, greedy, mean over `episodes`.
        std_return: Standard deviation over the same episodes.
        episodes: Number of episodes behind the two.
        versions: Versions of the libraries that trained it.
        sha256: Of weights.safetensors; empty before `save_behavior_policy` fills it in.
    """

    domain: str
    name: str
    algorithm: str
    hyperparameters: Mapping[str, Any]
    covariates: Mapping[str, float]
    threshold: tuple[float, float | None]
    steps: int
    seconds: float
    seed: int
    mean_return: float
    std_return: float
    episodes: int
    versions: Mapping[str, str]
    sha256: str = ""


@dataclass(frozen=True, eq=False)
class PolicyNetwork:
    """A deterministic policy: a ReLU network whose last layer holds Q values or, squashed by tanh, an action.

    Attributes:
        layers: Weights and biases.
        action_space: Discrete picks the largest output; Box rescales tanh of the outputs to the space.
        card: Where it comes from; None for a network that is still being trained.
    """

    layers: NetworkLayers
    action_space: spaces.Discrete | spaces.Box
    card: PolicyCard | None = None

    def outputs(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Last linear layer, [..., actions], of observations, [..., D]."""
        x = np.asarray(obs, dtype=np.float32)
        for weight, bias in self.layers[:-1]:
            x = np.maximum(x @ weight.T + bias, 0.0)
        weight, bias = self.layers[-1]
        return x @ weight.T + bias

    def predict(
        self,
        obs: NDArray[Any],
        state: None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], None]:
        """Actions, as Stable-Baselines3's `predict` returns them, so that its `evaluate_policy` takes this policy.

        Args:
            obs: Observations, [D] or [B, D].
            state: Ignored; there is no memory.
            episode_start: Ignored likewise.
            deterministic: Ignored; the policy is always greedy. Data are logged without exploration noise.

        Returns:
            Actions, int64 [] or [B] (Discrete), float32 [A] or [B, A] (Box); and None.

        Raises:
            ValueError: If the observations have another size than the network's input.
        """
        size = self.layers[0][0].shape[1]
        if np.ndim(obs) not in (1, 2) or np.shape(obs)[-1] != size:
            raise ValueError(f"observations have shape {np.shape(obs)}; this policy takes ({size},) or (B, {size})")
        outputs = self.outputs(obs)
        if isinstance(self.action_space, spaces.Discrete):
            return np.asarray(outputs.argmax(axis=-1), dtype=np.int64), None
        low, high = self.action_space.low, self.action_space.high
        return low + np.float32(0.5) * (np.tanh(outputs) + np.float32(1.0)) * (high - low), None


def policy_names(domain: str) -> list[str]:
    """Names of a domain's policies: one logger a training agent, in the order of thesis Table 5.1, and `test`."""
    return [*(f"logger-{i}" for i in range(len(domain_of(domain).training_agents))), TEST]


def policy_covariates(domain: str, name: str) -> dict[str, float]:
    """Covariates of the agent that a policy is trained on; the test policy's are the default ones.

    Raises:
        ValueError: If there is no such policy.
    """
    names = policy_names(domain)
    if name not in names:
        raise ValueError(f"{domain} has no policy {name!r}; known: {', '.join(names)}")
    covariates = domain_of(domain).covariates
    if name == TEST:
        return {c.name: c.default for c in covariates}
    values = domain_of(domain).training_agents[names.index(name)]
    return {c.name: float(value) for c, value in zip(covariates, values, strict=True)}


def closest_logger(domain: str, covariates: Mapping[str, float]) -> int:
    """Index of the training agent closest to an agent: Euclidean distance, each covariate scaled by its range.

    Args:
        domain: Name of the domain.
        covariates: Every covariate of the agent by name.

    Returns:
        Index i of `logger-i`; the first of equally close ones.

    Raises:
        ValueError: If a covariate is unknown or missing.

    Source: thesis section 5.1.2, which leaves the distance open.
    """
    known = domain_of(domain).covariates
    if set(covariates) != {c.name for c in known}:
        raise ValueError(
            f"covariates {sorted(covariates)} do not fit {domain}; give all of {', '.join(c.name for c in known)}"
        )
    scale = np.array([c.high - c.low for c in known])
    agent = np.array([covariates[c.name] for c in known])
    gap = (np.asarray(domain_of(domain).training_agents) - agent) / scale  # [training agents, covariates]
    distance = np.sqrt(np.square(gap).sum(axis=1))
    # Distances are rounded, so that rounding errors do not decide between equals.
    return int(np.argmin(distance.round(9)))


def with_random_actions(
    actions: NDArray[Any], space: spaces.Discrete | spaces.Box, epsilon: float, rng: np.random.Generator
) -> NDArray[Any]:
    """Replaces each row's action, with probability epsilon, by one drawn uniformly from the space.

    Args:
        actions: [B] (Discrete) or [B, A] (Box); left as it is.
        space: Space of one action.
        epsilon: Probability in [0, 1].
        rng: Source of randomness; draws the same amount whatever the actions and epsilon are.

    Returns:
        Actions of the same shape and type.

    Source: thesis section 5.1.2, Pure-eps.
    """
    drawn = random_actions(space, rng, len(actions))
    replaced = rng.random(len(actions)) < epsilon
    return np.where(replaced.reshape(-1, *[1] * (actions.ndim - 1)), drawn, actions).astype(actions.dtype)


def load_behavior_policy(domain: str, name: str) -> PolicyNetwork:
    """Loads a trained policy: the user's own under `$PERSIM_HOME/policies` if there is one, else the bundled one.

    Args:
        domain: Name of the domain.
        name: `logger-0` … (in the order of the domain's training agents) or `test`.

    Raises:
        MissingPolicyError: If it has not been trained.
        ValueError: If there is no such policy, or its weights are not those its card describes.
    """
    policy_covariates(domain, name)  # A wrong name is another mistake than a missing policy.
    folders = _folders(domain, name)
    for folder in folders:
        if (folder / CARD).is_file():
            return read_behavior_policy(folder, domain)
    raise MissingPolicyError(
        f"policy {name} of {domain} has not been trained; run `persim datasets train-loggers --domain {domain} "
        f"--name {name}` (looked in {', '.join(map(str, folders))})"
    )


def missing_loggers(domain: str, bundled_only: bool = False) -> list[str]:
    """Names of the loggers that a domain's logged datasets need and that have not been trained.

    Args:
        domain: Name of the domain.
        bundled_only: Whether the user's own policies do not count.
    """
    return [
        name
        for name in policy_names(domain)
        if name != TEST and not any((f / CARD).is_file() for f in _folders(domain, name)[bundled_only:])
    ]


def _folders(domain: str, name: str) -> list[Path]:
    """Where a policy may be: the user's own first, then the bundled one."""
    return [restored(root / domain / name) for root in (persim_home() / "policies", ASSETS / "policies")]


def read_behavior_policy(folder: Path, domain: str) -> PolicyNetwork:
    """Reads a trained policy's folder.

    Args:
        folder: Folder of its card and weights.
        domain: Name of its domain.

    Raises:
        ValueError: If its weights are not those its card describes or no network of the domain, or the card is of
            another version.
    """
    stored, tensors = read_folder(folder)
    with reading(folder):
        card = from_plain(PolicyCard, stored)
        return PolicyNetwork(_checked_layers(tensors, domain_of(domain)), domain_of(domain).action_space, card)


def _checked_layers(tensors: Mapping[str, NDArray[Any]], domain: Domain) -> NetworkLayers:
    """The layers of a file, if they lead from the domain's observations to its actions."""
    sizes, layers = [flatdim(domain.observation_space)], []
    for i in range(len(tensors) // 2):
        weight = checked_array(f"{i}.weight", tensors.get(f"{i}.weight"), (None, sizes[-1]), "f", WEIGHTS)
        bias = checked_array(f"{i}.bias", tensors.get(f"{i}.bias"), weight.shape[:1], "f", WEIGHTS)
        layers.append((weight, bias))
        sizes.append(len(bias))
    actions = flatdim(domain.action_space)
    if len(sizes) < 2 or sizes[-1] != actions:
        raise ValueError(f"{WEIGHTS} holds layers of {sizes} units, whose last should be {actions} actions")
    return tuple(layers)


def save_behavior_policy(layers: NetworkLayers, card: PolicyCard, root: Path | None = None) -> Path:
    """Writes a policy; one of that name is replaced whole or not at all.

    Args:
        layers: Weights and biases, float32.
        card: The card; its `sha256` is filled in here.
        root: Folder of all policies; None for `$PERSIM_HOME/policies`.

    Returns:
        Folder of the policy, `root/<domain>/<name>`.
    """
    folder = (persim_home() / "policies" if root is None else root) / card.domain / card.name
    tensors = {}
    for i, (weight, bias) in enumerate(layers):
        tensors[f"{i}.weight"], tensors[f"{i}.bias"] = weight, bias
    write_folder(folder, asdict(card), tensors)
    return folder
