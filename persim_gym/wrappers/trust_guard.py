"""A guard of the true environment: a fallback acts while the agent does not behave as its simulator believes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.spaces import checked_actions
from persim_gym.evaluation.acting import Policy
from persim_gym.observation_layout import action_components
from persim_gym.simulator.diagnostics.surprise import SurpriseBand, measure_band
from persim_gym.simulator.dynamics.online import OnlineDynamics
from persim_gym.simulator.simulator import Simulator
from persim_gym.transitions import Transitions
from persim_gym.wrappers.views import AgentViews, GuardedStep


def usual_surprise(
    simulator: Simulator, logged: Transitions, *, false_alarms: float = 1.0, seed: int = 0
) -> SurpriseBand:
    """Which surprise is usual for a simulator, as `TrustGuard` needs it.

    Args:
        simulator: The simulator.
        logged: Transitions of many agents that it was not trained on; those of the training make the band too narrow
            (`persim_gym.workflows.guard.guard_band` finds it from these, with a sibling of the simulator).
        false_alarms: Alarms allowed in 1,000 steps of an agent that has not changed, under the logging policy.
        seed: Chooses agents and steps.

    Raises:
        ValueError: If the transitions are not the simulator's or too few, or it holds no prior over agents.
    """
    beliefs = simulator.known_beliefs()
    return measure_band(simulator.model, beliefs, simulator.with_past(logged), false_alarms=false_alarms, seed=seed)


@dataclass(frozen=True)
class Handover:
    """One time that the fallback took over.

    Attributes:
        episode: Episode in which it did, from 0.
        step: Steps that had been taken in this episode.
        why: As `info["guard"]["why"]`.
        surprise: How surprising the last steps were.
        acted: Steps that the fallback has taken.
        ended: Why it handed back: the agent was "as believed before", or "learned anew"; empty where it has not.
    """

    episode: int
    step: int
    why: str
    surprise: float
    acted: int = 0
    ended: str = ""


class TrustGuard(gym.Wrapper[Any, Any, Any, Any]):
    """Wraps the true environment of one agent: a fallback acts while the agent is not as believed.

    Each transition is compared with what the simulator believes of the agent, which makes a surprise
    (`persim_gym.simulator.diagnostics.surprise`), and is learned from. When the surprise passes the limit, the fallback
    takes over, and the actions that `step` is given are ignored. From there on there are two views of the agent. One is
    what was believed when the surprise was last zero: right again after a passing disturbance. The other starts from
    what is known of agents in general, and learns from all transitions since then: right after the agent itself has
    changed. The first view whose surprise stays below the limit for `quiet` steps in a row becomes the belief, and the
    policy acts again. Where the new view stays at the limit for as long, it starts once more.

    The limit is made for agents of the simulator's population under the logging policy. There are more false alarms
    where another policy goes to where the simulator is worse, and what no transition shows is not noticed.

    `info["guard"]` of each step holds `surprise`, `limit`, `fallback` (whether it chose the action), `action` (that was
    taken) and `why` (why the fallback acts in the next step; empty where it does not).

    Attributes:
        handovers: All times that the fallback took over; the last one may not have ended.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        simulator: Simulator,
        agent: int | str | None,
        fallback: Policy | float | Sequence[float] | NDArray[Any],
        band: SurpriseBand,
        quiet: int = 20,
    ) -> None:
        """Wraps an environment.

        Args:
            env: True environment of the agent, with the simulator's spaces; where the simulator remembers the past, its
                observations are the present ones.
            simulator: The simulator.
            agent: Number or name of the agent; None for one that nothing is known of, where the fallback begins.
            fallback: Policy with Stable-Baselines3's `predict`, which is given the simulator's observations; or one
                action.
            band: Which surprise is usual, by `usual_surprise`.
            quiet: Steps in a row below the limit after which the policy acts again.

        Raises:
            ValueError: If the agent is unknown, the spaces or the action do not fit, or `quiet` is not positive.
        """
        super().__init__(env)
        _check_spaces(env, simulator)
        if quiet < 1:
            raise ValueError(f"quiet={quiet} would hand back at once; give at least 1 step")
        self._layout, self._n_actions = simulator.spec.layout, simulator.spec.n_actions
        self._fallback = _as_policy(fallback, simulator)
        self._views = AgentViews(simulator, agent, band, quiet)
        self._limit = band.limit
        self._memory, self._begins = None, np.ones(1, dtype=np.bool_)
        self._episode, self._step = -1, 0
        self.handovers = [Handover(0, 0, self._views.why, 0.0)] if self._views.why else []

    @property
    def spec(self) -> None:  # type: ignore[override]
        """None: no specification could make the fallback and what was learned again."""
        return None

    @property
    def dynamics(self) -> OnlineDynamics:
        """What is believed of the agent now, as `MPC.dynamics` takes it; another object after each hand-over."""
        return self._views.dynamics

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; what is believed stays, and a fallback that acts goes on."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._obs = self._layout.begin(_row(obs))[0]
        self._episode, self._step, self._begins = self._episode + 1, 0, np.ones(1, dtype=np.bool_)
        return obs, {**info, "guard": self._told(False, None)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Takes the action, or the fallback's, and compares what follows with the belief."""
        fallback = bool(self._views.why)
        taken = self._chosen() if fallback else action
        obs, reward, terminated, truncated, info = self.env.step(taken)
        action = checked_actions(self.action_space, taken)
        following = self._layout.after(self._obs[None], action_components(action[None], self._n_actions), _row(obs))[0]
        self._views.see(GuardedStep(self._obs, action, following, float(reward), bool(terminated)))
        self._obs, self._step = following, self._step + 1
        self._note(fallback)
        return obs, reward, terminated, truncated, {**info, "guard": self._told(fallback, taken)}

    def _chosen(self) -> Any:
        """The fallback's action."""
        action, self._memory = self._fallback.predict(
            self._obs[None], state=self._memory, episode_start=self._begins, deterministic=True
        )
        self._begins = np.zeros(1, dtype=np.bool_)
        return action[0]

    def _note(self, fallback: bool) -> None:
        """Keeps the list of hand-overs after a step that the fallback chose, or the policy."""
        why = self._views.why
        if fallback:
            last = self.handovers[-1]
            self.handovers[-1] = replace(last, acted=last.acted + 1, ended="" if why else self._views.ended)
        elif why:
            self._memory, self._begins = None, np.ones(1, dtype=np.bool_)
            self.handovers.append(Handover(self._episode, self._step, why, self._views.doubt))

    def _told(self, fallback: bool, action: Any) -> dict[str, Any]:
        """What `info["guard"]` says."""
        views = self._views
        return {
            "surprise": views.surprise,
            "limit": self._limit,
            "fallback": fallback,
            "action": action,
            "why": views.why,
        }


class _Always:
    """A policy that takes one action wherever it is."""

    def __init__(self, action: NDArray[Any]) -> None:
        self._action = action

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """The action for each row of [B, D]."""
        return np.repeat(self._action[None], len(observation), axis=0), None


def _as_policy(fallback: Any, simulator: Simulator) -> Policy:
    if isinstance(fallback, int | float | np.generic | Sequence | np.ndarray):
        return _Always(checked_actions(simulator.action_space, fallback))
    policy: Policy = fallback
    return policy


def _row(obs: Any) -> NDArray[np.float32]:
    return np.asarray(obs, dtype=np.float32)[None]


def _check_spaces(env: gym.Env[Any, Any], simulator: Simulator) -> None:
    """Refuses an environment whose observations or actions are not the simulator's."""
    size, action = simulator.spec.layout.present, simulator.action_space
    if not isinstance(env.observation_space, spaces.Box) or env.observation_space.shape != (size,):
        raise ValueError(
            f"the environment observes {env.observation_space}, but simulator {simulator.card.name} {size} numbers; "
            "guard an environment of the simulator's observations"
        )
    same = env.action_space == action if isinstance(action, spaces.Discrete) else env.action_space.shape == action.shape
    if type(env.action_space) is not type(action) or not same:
        raise ValueError(
            f"the environment's actions are {env.action_space}, but those of simulator {simulator.card.name} {action}; "
            "guard an environment of the simulator's actions"
        )
