"""A trained context-aware dynamics model on disk: a card and its weights; it serves where a simulator does."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from persim_gym.baselines.cadm.config import KINDS, CadmSettings, CadmShape
from persim_gym.baselines.cadm.dynamics import CadmDynamics
from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.baselines.cadm.rows import CadmRows
from persim_gym.envs import DOMAINS
from persim_gym.envs.hetero import domain_of
from persim_gym.simulator.model.weights import with_weights
from persim_gym.simulator.simulator import START_AGENTS, START_OBS
from persim_gym.simulator.trusted_tasks import check_trusted, trust_in_this_process, trusted_task
from persim_gym.spec import DOMAIN_TASK, EnvironmentSpec, OfEnvironment
from persim_gym.storage import CARD, WEIGHTS, checked_array, from_plain, read_folder, read_json, reading, write_folder
from persim_gym.task import Task
from persim_gym.transitions import Transitions

CADM_FORMAT = 1


@dataclass(frozen=True)
class CadmCard:
    """What a model is and where it comes from.

    Attributes:
        kind: A key of `KINDS`.
        name: Its name.
        domain: Name of the domain whose task it has; empty for data of no domain of ours.
        dataset: Minari id of its data.
        dataset_hash: Content hash of its data.
        transitions: Number of transitions it was trained on.
        n_agents: Number of agents of its data, which it does not tell apart.
        settings: See `CadmSettings`.
        shape: See `CadmShape`.
        seed: Seed of the training.
        training_seconds: Wall-clock time of the training.
        validation_error: Root mean squared one-step error on trajectories held out, in standard deviations of what is
            predicted; None where none were.
        interface: Spaces, time limit and task (see `EnvironmentSpec`).
        libraries: Versions that trained it.
        license: Licence of the weights.
        format: Version of this card.
        sha256: Of the weights; filled in when written.
    """

    kind: str
    name: str
    domain: str
    dataset: str
    dataset_hash: str
    transitions: int
    n_agents: int
    settings: dict[str, Any]
    shape: dict[str, Any]
    seed: int
    training_seconds: float
    validation_error: float | None
    interface: dict[str, Any]
    libraries: dict[str, str]
    license: str = "MIT"
    format: int = CADM_FORMAT
    sha256: str = ""


def cadm_markdown(card: Mapping[str, Any]) -> str:
    """Markdown of a card's plain values."""
    settings, shape = card["settings"], card["shape"]
    rows = {
        "dataset": f"`{card['dataset']}`, {card['transitions']:,} transitions of {card['n_agents']:,} agents",
        "sees of an agent": f"its last {settings['history']} steps",
        "model": f"{shape['members']} × {'Gaussian' if shape['probabilistic'] else 'deterministic'}, layers "
        f"{settings['layers']}, context of {settings['context']}",
        "trained": f"{settings['steps']:,} steps of {settings['batch']} windows, {card['training_seconds']:.0f} s, "
        f"seed {card['seed']}",
        "licence": card["license"],
    }
    lines = [f"# {KINDS[card['kind']]} {card['name']}", "", "| | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items()), ""])


@dataclass(frozen=True, repr=False)
class CadmSimulator(OfEnvironment):
    """A trained model, which takes the place of a simulator: it knows agents by their last steps.

    Attributes:
        card: What it is.
        model: The networks.
        folder: Where it is on disk, or goes by default.
        start_agents: Agent of each logged first observation, sorted, int64 [E].
        start_obs: Logged first observations, float32 [E, D].
    """

    card: CadmCard
    model: CadmModel
    folder: Path
    start_agents: NDArray[np.int64]
    start_obs: NDArray[np.float32]

    def __repr__(self) -> str:
        """One line that says what it is."""
        return f"CadmSimulator({self.card.name!r}: {KINDS[self.card.kind]}, {self.model.shape.members} members)"

    @cached_property
    def settings(self) -> CadmSettings:
        """How it was shaped and trained."""
        return from_plain(CadmSettings, self.card.settings)

    @cached_property
    def spec(self) -> EnvironmentSpec:
        """Its spaces, time limit and kind of task."""
        return EnvironmentSpec.from_json(self.card.interface)

    @cached_property
    def task(self) -> Task:
        """Its reward and termination: the domain's, or the user's own.

        Raises:
            ValueError: If the user's task cannot be imported.
        """
        own = self.spec.task != DOMAIN_TASK
        return trusted_task(self.spec.task, self.card.name) if own else DOMAINS[self.card.domain].task

    @property
    def n_agents(self) -> int:
        """Number of agents N of the data, which it does not tell apart."""
        return self.card.n_agents

    def check_agents(self, agents: Any) -> None:
        """Checks that agents are of the population that the data are of.

        Raises:
            ValueError: If one is not.
        """
        for agent in agents:
            whole = isinstance(agent, int | np.integer) and not isinstance(agent, bool)
            if not whole or not 0 <= agent < self.card.n_agents:
                raise ValueError(
                    f"agent {agent!r} is not of this model's population ({self.card.n_agents} agents: "
                    f"0–{self.card.n_agents - 1})"
                )

    def dynamics(
        self, agent: int | str, quantize: bool = False, *, noise: str = "none", logged: Transitions | None = None
    ) -> CadmDynamics:
        """The model before it knows anything of the agent: tell it what the agent did last by `given`.

        Args:
            agent: Number or name of the agent, which the model does not see.
            quantize: Must be False: these models do not multiply bytes.
            noise: Must be "none": see `disturbance`.
            logged: Of no use.

        Raises:
            ValueError: If the agent is unknown, or bytes or noise are asked for.
        """
        self.check_agents([self.agent_number(agent)])
        self.disturbance(noise, logged)
        if quantize:
            raise ValueError(f"{KINDS[self.card.kind]} plans in float32 alone; leave quantize out")
        return CadmDynamics(self.model, self.settings.particles, self.card.seed)

    def with_past(self, transitions: Transitions) -> Transitions:
        """Transitions as they are: the model takes the past from trajectories."""
        return transitions

    def disturbance(self, noise: str = "none", logged: Transitions | None = None) -> None:
        """Checks that no noise is asked for: a probabilistic model draws its own where it is planned in.

        Args:
            noise: Must be "none".
            logged: Of no use.

        Raises:
            ValueError: If it is not.
        """
        if noise != "none":
            raise ValueError(f"{KINDS[self.card.kind]} has no noise={noise!r}; leave noise out")

    def rows(self, agents: Any, apart: bool = False) -> CadmRows:
        """The model bound to rows of an environment, each with a history of its own.

        Args:
            agents: Agent of each row, [B].
            apart: Unused: rows share all weights.

        Raises:
            ValueError: If an agent is unknown.
        """
        self.check_agents(agents)
        return CadmRows(self.model, len(agents))

    def known_beliefs(self) -> NoReturn:
        """It has none.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{self.card.name} is {KINDS[self.card.kind]}, which knows agents by their last steps and holds no beliefs "
            "about them; take a simulator, or leave out what needs beliefs"
        )

    def online(self, agent: int | str | None = None) -> NoReturn:
        """It learns nothing once it is trained; errors as `known_beliefs`."""
        self.known_beliefs()

    def save(self, folder: str | Path | None = None) -> Path:
        """Writes it; a folder of that name is replaced whole or not at all.

        Args:
            folder: Where to; None for `folder`.

        Returns:
            The folder.
        """
        folder = self.folder if folder is None else Path(folder).expanduser()
        arrays = {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}
        arrays |= {START_AGENTS: self.start_agents, START_OBS: self.start_obs}
        write_folder(folder, asdict(self.card), arrays, cadm_markdown)
        return folder


def is_cadm(folder: Path) -> bool:
    """Whether a folder with a card holds one of these models."""
    with reading(folder):
        return read_json(folder / CARD).get("kind") in KINDS


def load_cadm(folder: str | Path, trust: bool = False) -> CadmSimulator:
    """Loads a model from its folder; the same files are read once.

    Args:
        folder: The folder.
        trust: As `persim_gym.load_simulator` takes it.

    Raises:
        ValueError: If it is damaged or of another format, or its task would be imported and is not trusted.
    """
    place = Path(folder).expanduser().resolve()
    with reading(place, "give the folder of a trained model"):
        modified = (place / CARD).stat().st_mtime_ns
    model = _read(place, modified)
    if trust:
        trust_in_this_process(model.spec.task)
    check_trusted(model.spec.task, model.card.name)
    return model


def _check_interface(card: CadmCard, shape: CadmShape) -> None:
    """Refuses a card whose domain there is not, or whose spaces are not those of its model."""
    spec = EnvironmentSpec.from_json(card.interface)
    spec.labels.check_agents(card.n_agents)
    if spec.task == DOMAIN_TASK:
        domain_of(card.domain)
    if (*spec.observation_space.shape, spec.n_actions, spec.action_dim) != (
        shape.obs_dim,
        shape.n_actions,
        shape.action_dim,
    ):
        raise ValueError(f"spaces on {CARD} do not fit its model")


@lru_cache(maxsize=16)
def _read(folder: Path, modified: int) -> CadmSimulator:
    stored, tensors = read_folder(folder)
    with reading(folder, "train it again with this version"):
        card = from_plain(CadmCard, stored)
        if card.format != CADM_FORMAT:
            raise ValueError(f"format {card.format} on {CARD} is not {CADM_FORMAT}")
        shape, settings = from_plain(CadmShape, card.shape), from_plain(CadmSettings, card.settings)
        if len(settings.layers) + len(settings.context_layers) > len(tensors):
            raise ValueError(f"the weights do not fit the settings on {CARD}, which have more layers")
        _check_interface(card, shape)
        agents = checked_array(START_AGENTS, tensors.pop(START_AGENTS, None), (None,), "i", WEIGHTS)
        obs = checked_array(START_OBS, tensors.pop(START_OBS, None), (len(agents), shape.obs_dim), "f", WEIGHTS)
        for name, values in tensors.items():
            checked_array(name, values, values.shape, "f", WEIGHTS)
        weights = {name: torch.from_numpy(values) for name, values in tensors.items()}
        model = with_weights(lambda: CadmModel(shape, settings), weights)
    return CadmSimulator(card, model, folder, agents, obs)
