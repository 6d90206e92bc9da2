"""`persim export`: a trained policy, or a simulator's dynamics of one agent, as an ONNX file."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.baselines.policy import BASELINE
from persim_gym.baselines.registry import load_baseline
from persim_gym.envs.spaces import random_actions
from persim_gym.onnx_files import write_onnx
from persim_gym.simulator.model.walls import walls_of
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.simulator import Simulator
from persim_gym.storage import CARD, read_folder

CHECKED_ROWS = 256
"""Random observations on which a file is checked."""
MEMBERS = ("mean", "all")
"""What the members' predictions become: one, or none of them is left out; or a member's number."""


class Export(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        what: What it is, for people.
        inputs: Names and shapes of what it takes.
        outputs: Names and shapes of what it gives.
        difference: Largest difference between what onnxruntime computes and what this package does.
    """

    path: Path
    what: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    difference: float


def export(
    source: str | Path,
    *,
    agent: int | str | None = None,
    member: str | int = "mean",
    out: str | Path | None = None,
    seed: int = 0,
    force: bool = False,
) -> Export:
    """Writes a trained policy, or the dynamics of one agent of a simulator, as an ONNX file, and checks it.

    Args:
        source: Result file (agent-<n>.json) of a policy that was trained in a simulator, or the folder that holds it;
            folder of a trained baseline; or name or path of a simulator.
        agent: Number or name of the agent: whose dynamics, or which of the policies in a folder.
        member: Of a simulator: "mean" for the members' mean prediction, "all" for those of all, or a member's number.
        out: The file; None for `persim-out/onnx/NAME.onnx`.
        seed: Draws the observations that it is checked on.
        force: Whether a file that is not of ours is replaced.

    Raises:
        ValueError: If there is nothing of the kind, an agent is missing or one too many, or as `write_onnx`.
    """
    path, rng = Path(source).expanduser(), np.random.default_rng(seed)
    results = sorted(path.glob("agent-*.json")) if path.is_dir() else []
    if path.suffix == ".json":
        if agent is not None:
            raise ValueError(f"{path} is the policy of one agent; leave --agent out")
        return _export_trained(path, out, rng, force)
    if results:
        return _export_trained(_chosen(path, results, agent), out, rng, force)
    if (path / CARD).is_file() and read_folder(path)[0].get("kind") == BASELINE:
        if agent is not None:
            raise ValueError(f"{path} is one policy, whichever the agent; leave --agent out")
        return _export_baseline(path, out, rng, force)
    return _export_dynamics(load_simulator(source), agent, member, out, rng, force)


def _chosen(folder: Path, results: list[Path], agent: int | str | None) -> Path:
    """The result file of an agent in a folder."""
    if agent is None and len(results) == 1:
        return results[0]
    if agent is None:
        raise ValueError(f"{folder} holds policies of {len(results)} agents; say of which: --agent N")
    from persim_gym.policies import read_policy  # Stable-Baselines3 is an extra.

    number = load_simulator(read_policy(results[0]).training.simulator).agent_number(agent)
    return folder / f"agent-{number}.json"


def _export_trained(result: Path, out: str | Path | None, rng: np.random.Generator, force: bool) -> Export:
    """A policy of `persim train-policy`."""
    from persim_gym.policies import load_policy, read_policy  # Stable-Baselines3 is an extra.
    from persim_gym.policies.actor import Actor

    training, algorithm = read_policy(result).training, load_policy(result)
    simulator = load_simulator(training.simulator)
    centre, spread = (x.numpy() for x in (simulator.model.obs_mean, simulator.model.obs_std))
    obs = _random_obs(simulator.observation_space, centre, spread, rng)
    actions, _ = algorithm.predict(obs, deterministic=True)
    agent = simulator.agent_name(training.agent)
    what = f"{training.algo} policy of agent {agent} in {simulator.card.name}"
    path = Path(f"persim-out/onnx/{result.absolute().parent.name}-{result.stem}.onnx") if out is None else Path(out)
    return _written(Actor(algorithm, training.algo), {"obs": obs}, {"action": actions}, path, what, force)


def _export_baseline(folder: Path, out: str | Path | None, rng: np.random.Generator, force: bool) -> Export:
    """A policy of `persim baseline`."""
    policy = load_baseline(folder, float32=True)
    obs = _random_obs(policy.spec.observation_space, *policy.usual, rng)
    actions, _ = policy.predict(obs, deterministic=True)
    what = f"{policy.card.method} policy of {policy.card.dataset}"
    path = Path(f"persim-out/onnx/{folder.absolute().name}.onnx") if out is None else Path(out)
    return _written(policy.network(), {"obs": obs}, {"action": actions}, path, what, force)


def _export_dynamics(
    simulator: Simulator,
    agent: int | str | None,
    member: str | int,
    out: str | Path | None,
    rng: np.random.Generator,
    force: bool,
) -> Export:
    """The dynamics of one agent."""
    if agent is None:
        raise ValueError(f"{simulator.card.name} is a simulator of {simulator.n_agents} agents; say which: --agent N")
    number, members = simulator.agent_number(agent), simulator.model.config.members
    if member not in MEMBERS and str(member) not in map(str, range(members)):
        raise ValueError(f'member={member!r}; use "mean", "all", or a number 0–{members - 1}')
    model = simulator.model
    obs = _random_obs(simulator.observation_space, model.obs_mean.numpy(), model.obs_std.numpy(), rng)
    action = random_actions(simulator.action_space, rng, len(obs))
    each = simulator.dynamics(number)(obs, action)  # [M, B, D + E]
    module = OneAgent(simulator, number, member)
    size = model.config.obs_dim
    chosen = module.combined(torch.from_numpy(each)).numpy()
    parts = (
        {"next_obs": chosen[..., :size], "reward": chosen[..., size], "terminated": chosen[..., size + 1]}
        if (model.config.extra_dim)
        else {"next_obs": chosen}
    )
    name = simulator.card.name.strip("/").replace("/", "-")
    path = Path(f"persim-out/onnx/{name}-agent-{number}.onnx") if out is None else Path(out)
    what = f"dynamics of agent {simulator.agent_name(number)} of {simulator.card.name}"
    return _written(module, {"obs": obs, "action": action}, parts, path, what, force)


class OneAgent(nn.Module):
    """A simulator's dynamics of one agent as one torch module; see `persim_gym.simulator.dynamics` for the fast ones.

    Maps observations [B, D] and actions, int64 [B] or float32 [B, A], to next observations, [B, D] or [M, B, D], with
    the bounds and walls that stop them. Where reward and end are learned, they follow, [B] or [M, B] each.
    """

    factor: Tensor

    def __init__(self, simulator: Simulator, agent: int, member: str | int) -> None:
        """Binds a simulator to an agent; arguments as `export`."""
        super().__init__()
        self.model, self._member = simulator.model, member
        self._walls = walls_of(self.model.walls)
        with torch.no_grad():
            self.register_buffer("factor", self.model.agent_encoder(torch.tensor([agent])))  # [M, 1, R]

    def forward(self, obs: Tensor, action: Tensor) -> tuple[Tensor, ...]:
        """Next observations, and what is learned beside them."""
        columns = list(self.model.predict_with(self.factor, obs, action, walls=()).unbind(-1))
        for wall in self._walls:
            touched = columns[wall.component] >= wall.bound if wall.upper else columns[wall.component] <= wall.bound
            for component, value in wall.sets.items():
                columns[component] = torch.where(touched, value, columns[component])
        following = self.combined(torch.stack(columns, dim=-1))
        size = self.model.config.obs_dim
        return (following[..., :size], *(following[..., size + i] for i in range(self.model.config.extra_dim)))

    def combined(self, each: Tensor) -> Tensor:
        """What the members' predictions become, [M, B, D + E] to [B, D + E] or [M, B, D + E]."""
        if self._member == "all":
            return each
        return each.mean(0) if self._member == "mean" else each[int(self._member)]


def _random_obs(
    space: spaces.Box, centre: NDArray[np.float32], spread: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Observations like those that were logged, and in their bounds, [CHECKED_ROWS, D]."""
    drawn = centre + 2 * spread * rng.normal(size=(CHECKED_ROWS, len(centre)))
    return np.clip(drawn, space.low, space.high).astype(np.float32)


def _written(
    module: nn.Module,
    inputs: Mapping[str, NDArray[np.generic]],
    outputs: Mapping[str, NDArray[np.generic]],
    path: Path,
    what: str,
    force: bool,
) -> Export:
    difference = write_onnx(module, inputs, outputs, path, {"what": what}, force)
    return Export(path, what, _shapes(inputs), _shapes(outputs), difference)


def _shapes(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, str]:
    """Types and shapes for people; the number of rows is left open."""
    return {
        name: f"{rows.dtype}[{', '.join('B' if size == CHECKED_ROWS else str(size) for size in rows.shape)}]"
        for name, rows in arrays.items()
    }
