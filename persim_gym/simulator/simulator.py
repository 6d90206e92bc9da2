"""A trained simulator of all agents, and the card that says what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs import DOMAINS, Domain
from persim_gym.observation_layout import LoggedSeries
from persim_gym.paths import simulator_path
from persim_gym.simulator.diagnostics.bands import BandScale
from persim_gym.simulator.diagnostics.metrics import agents_summary
from persim_gym.simulator.diagnostics.nearest_residuals import noise_of
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.dynamics.online import OnlineDynamics
from persim_gym.simulator.inference.personalize import check_new, personalized
from persim_gym.simulator.inference.posterior import FactorPosterior, to_tensors
from persim_gym.simulator.inference.static_prior import StaticPrior, count_new
from persim_gym.simulator.measured import measured_arrays
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model.walls import describe_walls, walls_of
from persim_gym.simulator.model_card import SimulatorCard, card_markdown
from persim_gym.simulator.noise.disturbance import Disturbance
from persim_gym.simulator.noise.gaussian import GaussianNoise
from persim_gym.simulator.noise.planning import NoisyDynamics
from persim_gym.simulator.trusted_tasks import trusted_task
from persim_gym.spec import DOMAIN_TASK, LEARNED_TASK, EnvironmentSpec, OfEnvironment, learned_task
from persim_gym.storage import CARD, write_folder
from persim_gym.task import Task
from persim_gym.transitions import Transitions

START_AGENTS, START_OBS = "starts.agent", "starts.obs"  # Names beside the model's own tensors; older files lack them.
SERIES_VALUES, SERIES_END = "starts.series", "starts.series_end"
"""Likewise, of exogenous columns, one series a start."""
BELIEFS_PREFIX = "beliefs."
"""Of the names of what is believed of the agents, among the weights."""


@dataclass(frozen=True, repr=False)
class Simulator(OfEnvironment):
    """A trained simulator of all agents.

    Attributes:
        card: What it is.
        model: The factored ensemble.
        folder: Where it is on disk, or goes by default.
        start_agents: Agent of each logged first observation, sorted, int64 [E]; empty where none were kept.
        start_obs: Logged first observations, float32 [E, D].
        beliefs: What is believed of its agents' factors; None in a simulator that was trained without.
        new_agents: Agents that `personalize` has added.
        series: Logged exogenous columns from each of these first observations on; None where there are none.
        noise: Noise of its transitions, measured on logged ones that were not trained on; None if it was not.
        band_scale: How wide bands of predictions have to be, likewise.
        static: What static covariates say of an agent; None if it was trained without.
    """

    card: SimulatorCard
    model: FactoredEnsemble
    folder: Path
    start_agents: NDArray[np.int64]
    start_obs: NDArray[np.float32]
    beliefs: FactorPosterior | None = None
    new_agents: range = range(0)
    series: LoggedSeries | None = None
    noise: GaussianNoise | None = None
    band_scale: BandScale | None = None
    static: StaticPrior | None = None

    @classmethod
    def of(
        cls,
        card: SimulatorCard,
        model: FactoredEnsemble,
        starts: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
        beliefs: FactorPosterior | None = None,
        series: LoggedSeries | None = None,
    ) -> "Simulator":
        """A simulator that is not on disk yet.

        Args:
            card: What it is.
            model: The trained ensemble.
            starts: Agents [E] and first observations [E, D] of the logged episodes, for environments that start there.
            beliefs: What is believed of its agents.
            series: Logged exogenous columns of the same episodes, in the same order.
        """
        agents, obs = starts or (np.empty(0, dtype=np.int64), np.empty((0, model.config.obs_dim), dtype=np.float32))
        order = np.argsort(agents, kind="stable")
        series = series and series.reordered(order)
        return cls(card, model, simulator_path(card.name), agents[order], obs[order], beliefs, series=series)

    def __repr__(self) -> str:
        """One line that says what it is."""
        s = self.model.config
        return f"Simulator({self.card.name!r}: {s.n_agents:,} agents, {s.variant}, rank {s.rank}, {s.members} members)"

    @cached_property
    def spec(self) -> EnvironmentSpec:
        """Its spaces, time limit and kind of task: the card's, else its domain's.

        Raises:
            ValueError: If the card has neither.
        """
        if self.card.interface:
            return EnvironmentSpec.from_json(self.card.interface)
        domain = self._domain()
        return EnvironmentSpec(domain.observation_space, domain.action_space, domain.episode_steps, DOMAIN_TASK)

    @cached_property
    def task(self) -> Task:
        """Its reward and termination: the domain's, learned, or the user's own.

        Raises:
            ValueError: If the user's task is not trusted (`persim_gym.simulator.trusted_tasks`) or cannot be imported.
        """
        kind = self.spec.task
        if kind == LEARNED_TASK:
            return learned_task(self.spec.layout.width)
        known: Task = self._domain().task if kind == DOMAIN_TASK else trusted_task(kind, self.card.name)
        return known

    @property
    def n_agents(self) -> int:
        """Number of its agents N."""
        return self.model.config.n_agents

    def _domain(self) -> Domain:
        """The domain that the card names."""
        if self.card.domain not in DOMAINS:
            where = f"{self.folder / CARD} holds no spaces of its own"
            raise ValueError(f"unknown domain {self.card.domain!r}; known: {', '.join(DOMAINS)} ({where})")
        return DOMAINS[self.card.domain]

    def dynamics(
        self,
        agent: int | str,
        quantize: bool = False,
        *,
        noise: str = "none",
        logged: Transitions | None = None,
        draws: int = 4,
        seed: int = 0,
    ) -> Any:
        """The simulator bound to one agent.

        Args:
            agent: Number or name of the agent.
            quantize: Whether rollouts of deep models of continuous actions multiply bytes where the processor does.
                That is faster, but plans may earn less (docs/planning.md); False for float32.
            noise: "none" for expectations; "residual" or "gaussian" for rollouts under noise, the same for all
                candidates of a plan, which are then ranked by the mean over rollouts.
            logged: For "residual", what the simulator was trained on (`persim_gym.datasets.of_simulator.logged_data`).
            draws: Rollouts of each member under noise.
            seed: Of the noise.

        Raises:
            ValueError: If the agent is unknown, or as `disturbance`.
        """
        bound = bind_agent(self.model, self.agent_number(agent), quantize)
        disturbance = self.disturbance(noise, logged)
        if disturbance is None:
            return bound
        return NoisyDynamics(bound, disturbance, self.model.config.prediction_dim, draws, seed)

    def disturbance(self, noise: str = "none", logged: Transitions | None = None) -> Disturbance | None:
        """What happens to predictions in a rollout, None where nothing does; arguments as `dynamics`.

        Raises:
            ValueError: If there is no such noise, or the simulator lacks what it takes.
        """
        gaussian = self.known_noise() if noise == "gaussian" else None
        return Disturbance.of_model(self.model, noise_of(noise, self.model, gaussian, logged), self.integer_columns())

    def known_noise(self) -> GaussianNoise:
        """The noise of its transitions.

        Raises:
            ValueError: If it was not measured.
        """
        if self.noise is None:
            name = self.card.name
            raise ValueError(
                f"simulator {name} holds no noise of its transitions; `persim calibrate {name}` measures it"
            )
        return self.noise.rounding(self.integer_columns())

    def rows(self, agents: Sequence[int], apart: bool = False) -> BatchDynamics:
        """The simulator bound to the agents of B rows, which environments step; arguments as `BatchDynamics`."""
        return BatchDynamics(self.model, agents, apart)

    def known_beliefs(self) -> FactorPosterior:
        """What is believed of its agents' factors.

        Raises:
            ValueError: If it was trained without.
        """
        if self.beliefs is None and self.model.config.variant != "factored":
            raise ValueError(
                f"simulator {self.card.name} is {self.model.config.variant}: only a factored one holds beliefs about "
                "its agents; train one without --variant"
            )
        if self.beliefs is None:
            raise ValueError(
                f"simulator {self.card.name} holds no prior over agents; train it again: persim train {self.card.name}"
            )
        return self.beliefs

    def personalize(
        self,
        transitions: Transitions | None = None,
        names: Sequence[str] = (),
        *,
        static: Mapping[str, Any] | None = None,
    ) -> "Simulator":
        """Adds agents that training never saw, in closed form and in milliseconds.

        They are known by their transitions, by static covariates such as age or site, or by both.

        Args:
            transitions: Of the new agents alone. The one with the lowest number becomes agent N, the next N + 1, … The
                first observation of each trajectory becomes a logged start of its agent. None for agents that did
                nothing yet: one, or as many as `static` has values.
            names: Names of the agents in the transitions, by their numbers there; a dataset's are in
                `persim_gym.datasets.labels_of(dataset).agents`. Without, new agents are called by their numbers here.
            static: Static covariates of the new agents, by column of the data that this simulator was trained on: a
                value for each, in their order, or one for all; None where it is not known.

        Returns:
            A simulator of the old agents and the new ones, `new_agents`, named after this one and not yet on disk. Its
            `beliefs` hold what is known of all of them.

        Raises:
            ValueError: If observations or actions are not this simulator's, it holds no prior or was trained without
                these covariates, agents go past its walls, or one has the name of another.
        """
        if transitions is not None:
            transitions = self.with_past(transitions)
            check_new(self.model, transitions, self.card.name)
            numbers, (agents, obs) = np.unique(transitions.agent), transitions.starts()
        else:
            numbers = np.arange(count_new(static, names))
            agents, obs = np.empty(0, dtype=np.int64), self.start_obs[:0]
        evidence = None if static is None else self.known_static().evidence(static, len(numbers))
        model, beliefs = personalized(self.model, self.known_beliefs(), transitions, evidence)
        known, order = self.model.config.n_agents, np.argsort(agents, kind="stable")
        name, interface = f"{self.card.name}-personalized", self.card.interface
        if names or self.labels.agents:
            called = [names[n] for n in numbers] if names else [str(known + i) for i in range(len(numbers))]
            interface = replace(self.spec, labels=self.labels.with_agents(known, called)).to_json()
        series = self.series
        if series is not None and transitions is not None:
            own = LoggedSeries.from_transitions(transitions, self.spec.layout.outside)
            series = series.joined(own.reordered(order))
        return replace(
            self,
            card=replace(self.card, name=name, shape=model.config.to_json(), interface=interface),
            model=model,
            folder=simulator_path(name),
            beliefs=beliefs,
            start_agents=np.append(self.start_agents, known + np.searchsorted(numbers, agents[order])),
            start_obs=np.concatenate([self.start_obs, obs[order]]),
            series=series,
            new_agents=range(known, known + len(numbers)),
        )

    def known_static(self) -> StaticPrior:
        """What static covariates say of its agents.

        Raises:
            ValueError: If it was trained without.
        """
        if self.static is None:
            why = "was trained without static covariates; train it on a dataset that `persim import --static` made"
            raise ValueError(f"simulator {self.card.name} {why}")
        return self.static

    def with_past(self, transitions: Transitions) -> Transitions:
        """Transitions as the simulator sees them: where it remembers the past and they hold none, with their own.

        Args:
            transitions: With the observations of the data, or with those of the simulator.

        Raises:
            ValueError: If no trajectory is longer than the history.
        """
        layout = self.spec.layout
        if layout.past and transitions.obs_dim == layout.present:
            return layout.widened(transitions, self.spec.n_actions)
        return transitions

    def online(self, agent: int | str | None = None) -> OnlineDynamics:
        """Dynamics that learn from every transition that they are told, `.update(obs, action, next_obs)`.

        Args:
            agent: Whose beliefs to start from, by number or name; None for one that nothing is known of yet.

        Raises:
            ValueError: If the agent is unknown, or the simulator holds no prior.
        """
        beliefs = self.known_beliefs()
        return OnlineDynamics(self.model, beliefs, None if agent is None else self.agent_number(agent))

    def save(self, folder: str | Path | None = None, force: bool = True) -> Path:
        """Writes it; a folder of that name is replaced whole or not at all.

        Args:
            folder: Where to; None for `folder`.
            force: Whether a simulator of other weights that is there is replaced.

        Returns:
            The folder.

        Raises:
            ValueError: If the folder holds something else, or other weights and `force` is off.
        """
        folder = self.folder if folder is None else Path(folder).expanduser()
        tensors = dict(self.model.state_dict())
        if not walls_of(self.model.walls):
            del tensors["walls"]
        agents = {} if self.beliefs is None else agents_summary(self.beliefs)
        static = {} if self.static is None else self.static.to_json()
        card = replace(self.card, agents=agents, walls=describe_walls(self.model.walls), static=static)
        if self.beliefs is not None:
            tensors |= {BELIEFS_PREFIX + name: value for name, value in to_tensors(self.beliefs).items()}
        arrays = {name: value.cpu().numpy() for name, value in tensors.items()}
        if len(self.start_agents):
            arrays |= {START_AGENTS: self.start_agents, START_OBS: self.start_obs}
        if self.series is not None:
            arrays |= {SERIES_VALUES: self.series.values, SERIES_END: self.series.end}
        measured = measured_arrays(self.noise, self.band_scale, self.static)
        write_folder(folder, card.to_json(), arrays, card_markdown, force, measured)
        return folder
