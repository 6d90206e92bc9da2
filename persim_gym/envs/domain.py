"""What defines a domain: covariates, physics, task, spaces; and its seeded population of agents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.behavior import BehaviorConfig, Rule
from persim_gym.task import Array, Ends, PeakBonus, PlanningDynamics, Task

POPULATION_SIZE = 500  # thesis p. 34
POPULATION_SEED = 2021

Physics: TypeAlias = Callable[[Array, Array], Array]
"""Maps (state [..., S], action [...] or [..., A]) to the next state, with covariates bound."""


@runtime_checkable
class RollingPhysics(Protocol):
    """Physics that keep the whole state from one step to the next, as MuJoCo's."""

    def __call__(self, state: Array, action: Array) -> Array:
        """The next state."""

    def rollout(self, state: Array, actions: Array, ended: Any = None, live: Array = None) -> Array:
        """States that follow h actions; see `persim_gym.envs.mujoco.physics.RobotPhysics.rollout`."""


@dataclass(frozen=True)
class Covariate:
    """A physical parameter in which agents differ; hidden from learners.

    Attributes:
        name: Keyword of the environment, e.g. `gravity`.
        low: Smallest value of the population.
        high: Largest value of the population.
        default: Value of Gymnasium's own environment.
        unit: Unit, for tables; empty if dimensionless.
    """

    name: str
    low: float
    high: float
    default: float
    unit: str = ""


class Renderer(Protocol):
    """Draws full physical states of one agent."""

    def render(self, state: NDArray[np.float64]) -> NDArray[np.uint8] | None:
        """Draws the state, [S]: an image [height, width, 3] in rgb_array mode, a window (and None) in human mode."""

    def close(self) -> None:
        """Frees the window."""


def stack_state(*columns: Array) -> NDArray[np.float64]:
    """Joins S columns [...] into states [..., S]; each column stays contiguous, which is what physics reads."""
    joined = np.array(columns)
    return joined.transpose(*range(1, joined.ndim), 0)


def _identity(x: Array) -> Array:
    return x


@dataclass(frozen=True)
class Domain:
    """One kind of environment that all agents share; they differ in its covariates only.

    The physics work on the full physical *state*; in domains that show all of it, state and observation coincide and
    `observe` and `embed` are left out. Where chance plays a part (demand, meals, sensor noise), its draws for the whole
    episode are columns of the state that `initial_state` fills, so that physics are a function of state and action.

    Attributes:
        title: Name in CamelCase; the environment is `Hetero{title}-v0`.
        summary: One line for listings.
        task: Reward and termination, of observations.
        covariates: In the order of the thesis's tuples.
        observation_names: Name and unit of each observation dimension, for tables and plots.
        observation_space: Space of one observation, [D].
        action_space: Space of one action: Discrete, or Box [A].
        episode_steps: Time limit (a truncation).
        test_agents: Covariates of agents 0–4, thesis Table 5.1.
        training_agents: Covariates of the agents that logging policies are trained on, thesis Table 5.1.
        initial_state: Maps (generator, number of rows B) to initial states, [B, S].
        physics: Maps covariates (floats or arrays [B]) to the step function of the full physical state.
        make_renderer: Maps (render_mode, covariates) to a renderer.
        render_fps: Frames a second in real time.
        observe: Maps a state [..., S] to its observation [..., D].
        embed: Maps an observation [..., D] to a state [..., S] that behaves the same; with `hides_state`, to one that
            looks the same.
        hides_state: Whether states hold more than observations tell, so that observations have no true dynamics.
        clips: Whether the physics clips observations to the bounds of the space, so that predictions may too.
        peak_bonus: Planning objective that planners use by default; never part of the reward.
        exact_reward: Maps one (state [S], action, next_state [S]) to Gymnasium's reward where the task's, which sees
            observations, differs by rounding; the single environment pays it.
        random: Whether transitions are random: what is drawn is then part of the state and hidden, and the state that
            `embed` makes moves to the expected one, which `dynamics` therefore return.
        recipes: Fields of a training recipe that differ from the general one: under "default" and "thesis" those of the
            recipes of these names, under a dataset's name, such as "pure-v0", those of its default recipe beyond that.
        policy_settings: Settings of policies trained in its simulators, by algorithm, where the general ones do not fit
            (see `persim_gym.policies.config`).
        behavior: How its logging and test policies are trained; None where there are none.
        rule: The logging and test policy of all agents where it is a rule; then nothing is trained.
        in_thesis: Whether the thesis has it.
    """

    title: str
    summary: str
    task: Task
    covariates: tuple[Covariate, ...]
    observation_names: tuple[str, ...]
    observation_space: spaces.Box
    action_space: spaces.Discrete | spaces.Box
    episode_steps: int
    test_agents: tuple[tuple[float, ...], ...]
    training_agents: tuple[tuple[float, ...], ...]
    initial_state: Callable[[np.random.Generator, int], NDArray[np.float64]]
    physics: Callable[..., Physics]
    make_renderer: Callable[[str, Mapping[str, float]], Renderer]
    render_fps: int
    observe: Callable[[Array], Array] = _identity
    embed: Callable[[Array], Array] = _identity
    hides_state: bool = False
    clips: bool = False
    peak_bonus: PeakBonus | None = None
    exact_reward: Callable[[Array, Array, Array], Array] | None = None
    random: bool = False
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    behavior: BehaviorConfig | None = None
    rule: Rule | None = None
    in_thesis: bool = False

    @property
    def name(self) -> str:
        """Key in `DOMAINS`, in dataset ids and in simulator names."""
        return self.title.lower()

    @property
    def env_id(self) -> str:
        """Gymnasium id of the true environment."""
        return f"Hetero{self.title}-v0"

    @cached_property
    def population(self) -> NDArray[np.float64]:
        """Covariates of all agents, [N, covariates]: the test agents, then uniform draws from a fixed seed."""
        low = [c.low for c in self.covariates]
        high = [c.high for c in self.covariates]
        rng = np.random.default_rng(POPULATION_SEED)
        drawn = rng.uniform(low, high, size=(POPULATION_SIZE - len(self.test_agents), len(self.covariates)))
        return np.concatenate([np.asarray(self.test_agents, dtype=np.float64), drawn])

    def agent_covariates(self, agent: int) -> dict[str, float]:
        """Covariates of one agent of the population.

        Raises:
            ValueError: If there is no such agent.
        """
        if isinstance(agent, bool) or not isinstance(agent, int | np.integer) or not 0 <= agent < POPULATION_SIZE:
            raise ValueError(
                f"agent {agent!r} is not in the {self.name} population ({POPULATION_SIZE} agents: "
                f"0–{POPULATION_SIZE - 1}); give a whole number in that range, or covariates by name"
            )
        return dict(zip((c.name for c in self.covariates), map(float, self.population[agent]), strict=True))

    def resolve_covariates(self, agent: int | None, named: Mapping[str, Any]) -> dict[str, float]:
        """Covariates that the keywords of an environment stand for.

        Args:
            agent: Agent of the population, or None.
            named: Covariates by name; those left out take their default. Not together with `agent`.

        Returns:
            Every covariate by name.

        Raises:
            TypeError: If a name is unknown.
            ValueError: If both are given, or a value lies outside its range.
        """
        known = {c.name: c for c in self.covariates}
        if unknown := sorted(set(named) - set(known)):
            raise TypeError(
                f"{self.env_id} got an unexpected keyword argument {unknown[0]!r}; covariates: {', '.join(known)}"
            )
        if agent is not None:
            if named:
                raise ValueError(
                    f"agent={agent} already fixes the covariates; drop either agent or {', '.join(sorted(named))}"
                )
            return self.agent_covariates(agent)
        resolved = {}
        for name, covariate in known.items():
            value = named.get(name, covariate.default)
            if not isinstance(value, int | float | np.number) or not covariate.low <= value <= covariate.high:
                raise ValueError(f"{name}={value!r} is outside [{covariate.low}, {covariate.high}] of {self.env_id}")
            resolved[name] = float(value)
        return resolved

    def dynamics(self, agent: int | None = None, **covariates: float) -> "TrueDynamics":
        """True dynamics of one agent on observations, for planners; keywords as in the environment.

        Returns:
            Maps (obs [..., D], action) to next_obs [..., D], in NumPy. Where the physics can roll out, so can they.

        Raises:
            ValueError: As `resolve_covariates`, or if the observations hide a part of the state.
        """
        if self.hides_state:
            raise ValueError(
                f"observations of {self.env_id} hide a part of the state, so they have no true dynamics; step the "
                "environment itself, or learn a simulator"
            )
        step = self.physics(**self.resolve_covariates(agent, covariates))
        if isinstance(step, RollingPhysics):
            return RollingDynamics(step, self.observe, self.embed)
        return TrueDynamics(step, self.observe, self.embed)


@dataclass(frozen=True)
class TrueDynamics(PlanningDynamics):
    """A step function of full physical states as dynamics of observations.

    Attributes:
        step: Maps (state [..., S], action) to the next state.
        observe: As the domain's.
        embed: As the domain's.
    """

    step: Physics
    observe: Callable[[Array], Array]
    embed: Callable[[Array], Array]

    def __call__(self, obs: Array, action: Array) -> Array:
        """Next observations, [..., D]."""
        return self.observe(self.step(self.embed(obs), action))


@dataclass(frozen=True)
class RollingDynamics(TrueDynamics):
    """True dynamics whose physics keep the whole state from one step to the next."""

    step: RollingPhysics
    fused = stops = True

    def rollout(self, obs: Array, actions: Array, ends: Ends | None = None, live: Array = None) -> Array:
        """Observations that follow h actions, [..., h, D].

        As h calls one after the other, up to the tolerance of the contact solver, which goes on from its last step.

        Args:
            obs: [..., D].
            actions: [..., h, A].
            ends: As `PlanningDynamics.rollout`.
            live: As `PlanningDynamics.rollout`, [...].
        """
        ended = None if ends is None else lambda state: ends(self.observe(state))
        return self.observe(self.step.rollout(self.embed(obs), actions, ended, live))
