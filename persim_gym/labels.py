"""What people call agents, observations and actions: names and units beside the numbers that a model uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from persim_gym.suggest import suggestion


@dataclass(frozen=True)
class Labels:
    """Names; where there are none, numbers are what things are called.

    Attributes:
        agents: Name of each agent, [N].
        observations: Name of each observation, [D].
        actions: Names of the action columns: one of a discrete action or several that are combined, else [A].
        choices: Name of each choice of a discrete action.
        reward: Name of the reward.
        terminated: Name of the end of an episode.
        units: Units of observations, actions and reward, by name, where they are known.
        integers: Names of observations that are whole numbers, as seats or doses: predictions are rounded there.
    """

    agents: tuple[str, ...] = ()
    observations: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    reward: str = ""
    terminated: str = ""
    units: Mapping[str, str] = field(default_factory=dict)
    integers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses names that would break the line that they stand in.

        Raises:
            ValueError: If one cannot be printed.
        """
        kinds = (self.agents, self.observations, self.actions, self.choices, (self.reward, self.terminated))
        every = (*(name for names in kinds for name in names), *self.units, *self.units.values())
        if wrong := [name for name in every if not name.isprintable()]:
            raise ValueError(f"{wrong[0]!r} is no name; take line breaks and control characters out of it")
        if unknown := [name for name in self.integers if name not in self.observations]:
            raise ValueError(f"{unknown[0]!r} is to be a whole number and is no observation; name one of those")

    def __bool__(self) -> bool:
        """Whether anything has a name."""
        return self != NO_LABELS

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.agents)}

    @property
    def integer_columns(self) -> tuple[int, ...]:
        """Components of an observation that are whole numbers."""
        return tuple(number for number, name in enumerate(self.observations) if name in self.integers)

    @cached_property
    def _whole(self) -> bool:
        """Whether the agents' names are whole numbers."""
        return bool(self.agents) and all(name.isdecimal() for name in self.agents)

    def agent_number(self, agent: int | str, n_agents: int) -> int:
        """The number of an agent.

        A text is a name; where no agent has that name, and names are no numbers themselves, it may be a number. A
        number is the agent's own; beyond the numbers there are, it stands for the agent that has it for a name.

        Args:
            agent: Name or number.
            n_agents: Number of agents N.

        Returns:
            The number; a number without a name to it as it is, which may be that of no agent.

        Raises:
            ValueError: If no agent has the name, or a number means two agents.
        """
        named = self._numbers.get(str(agent))
        if not isinstance(agent, str):
            if named is None or named == agent:
                return agent
            if 0 <= agent < n_agents:
                raise ValueError(
                    f"agent {agent} may be the one of that name or number {agent}, {self.agents[agent]!r}; give its "
                    f'name as a text, agent="{agent}"'
                )
            return named
        if named is not None:
            return named
        if agent.isdecimal() and not self._whole and int(agent) < n_agents:
            return int(agent)
        known = suggestion(agent, self.agents) if self.agents else f"they have no names, but numbers: 0–{n_agents - 1}"
        raise ValueError(f"agent {agent} is none of these {n_agents:,} agents; {known}")

    def agent_name(self, number: int) -> str:
        """What an agent is called: its name, else its number."""
        return self.agents[number] if 0 <= number < len(self.agents) else str(number)

    def check_sizes(self, obs_dim: int, n_actions: int, action_dim: int) -> None:
        """Checks that there is a name for each observation, choice and continuous action, or for none.

        Raises:
            ValueError: If there is not.
        """
        sizes = {"observations": obs_dim, "choices": n_actions} | ({} if n_actions else {"actions": action_dim})
        for kind, size in sizes.items():
            if (found := len(getattr(self, kind))) not in (0, size):
                raise ValueError(f"{found} names of {kind}, of which there are {size}")

    def check_agents(self, n_agents: int) -> None:
        """Checks that each agent has a name of its own, or none has one.

        Raises:
            ValueError: If not.
        """
        if len(self.agents) not in (0, n_agents) or len(self._numbers) != len(self.agents):
            raise ValueError(f"{len(self._numbers)} different names of agents, of which there are {n_agents}")

    def with_unit(self, name: str) -> str:
        """A name with its unit in parentheses, as tables and plots show it, where the unit is known."""
        return f"{name} ({self.units[name]})" if name in self.units else name

    def predicted(self, obs_dim: int) -> list[str]:
        """What each predicted column is called: D observations with their units, then reward and end."""
        names = self.observations or tuple(f"observation {d}" for d in range(obs_dim))
        return [self.with_unit(name) for name in (*names, self.reward or "reward", self.terminated or "terminated")]

    def with_agents(self, known: int, names: Sequence[str]) -> "Labels":
        """The labels after further agents were added.

        Args:
            known: Number of agents so far.
            names: Names of the further ones; those that have none are called by their numbers.

        Raises:
            ValueError: If two agents would have one name.
        """
        agents = (*(self.agents or map(str, range(known))), *names)
        if len(set(agents)) < len(agents):
            twice = next(name for i, name in enumerate(agents) if name in agents[:i])
            raise ValueError(f"there is an agent {twice} already; rename the new one in its table, or leave it out")
        return replace(self, agents=agents)


NO_LABELS = Labels()
