"""The thesis's measure of a simulator: open-loop prediction error in the true environment."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from persim_gym.envs.domain import Domain
from persim_gym.evaluation.acting import Policy, Step, act
from persim_gym.history import History
from persim_gym.observation_layout import ObservationLayout, action_components
from persim_gym.task import Dynamics, planning_dynamics


@dataclass(frozen=True)
class PredictionError:
    """Open-loop prediction error of one agent.

    Attributes:
        rmse: Root mean squared error of each episode over dimensions and steps, in raw units, [E].
        r2: Variance-weighted coefficient of determination of each episode, [E].
        true: True observations, [E, T + 1, D]; NaN after termination.
        predicted: Mean over members of predicted observations, [E, T + 1, D].
    """

    rmse: NDArray[np.float64]
    r2: NDArray[np.float64]
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @property
    def mean_rmse(self) -> float:
        """Mean RMSE over episodes, as in thesis Tables B.1–B.3."""
        return float(self.rmse.mean())

    @property
    def median_r2(self) -> float:
        """Median R² over episodes, as in thesis Tables B.1–B.3."""
        return float(np.median(self.r2))


def prediction_error(
    dynamics: Dynamics,
    domain: Domain,
    agent: int,
    policy: Policy,
    *,
    episodes: int = 200,
    warmup: int = 10,
    horizon: int = 50,
    seed: int = 0,
    layout: ObservationLayout | None = None,
) -> PredictionError:
    """Compares open-loop predictions with the true environment under an unseen policy's actions.

    The policy acts in the true environment; after `warmup` steps the dynamics predict `horizon` steps from the true
    observation and the same actions. Each member rolls out by itself and their mean is scored. Dynamics that want to
    know what the agent did last are told the warm-up steps. Steps after termination are ignored, as are episodes that
    end before the first predicted step.

    Args:
        dynamics: Model bound to the agent.
        domain: The domain.
        agent: Agent of the population.
        policy: Chooses actions; the thesis uses one trained on the default agent.
        episodes: Number of episodes E.
        warmup: Steps on true observations.
        horizon: Predicted steps T.
        seed: Seeds the initial states.
        layout: Where the model's observations hold their past, what they hold; None for the domain's observations.

    Raises:
        ValueError: If every episode ends during the warm-up.

    Source: thesis appendix B.1.
    """
    state = domain.initial_state(np.random.default_rng(seed), episodes)
    true = record_trajectories(policy, domain, agent, state, warmup, horizon, layout)
    keep, present = true.happened[:, 0], true.obs[0].shape[1] if layout is None else layout.present
    if not keep.any():
        raise ValueError(f"all {episodes} episodes of agent {agent} end within the {warmup} warm-up steps")
    predicted = predict_along(dynamics, true)[keep][..., :present]
    observed, happened = np.stack(true.obs, axis=1).astype(np.float64)[keep][..., :present], true.happened[keep]
    rmse, r2 = _episode_scores(observed[:, 1:], predicted[:, 1:], happened)
    observed[:, 1:][~happened] = np.nan
    return PredictionError(rmse, r2, observed, predicted)


class Trajectories(NamedTuple):
    """Pieces of episodes in the true environment, as long as each other; the physics goes on behind the end.

    Attributes:
        obs: T + 1 arrays, float32 [E, D].
        action: T arrays, int64 [E] or float32 [E, A].
        happened: Whether the episode had not ended before a step, bool [E, T].
        before: The warm-up steps.
    """

    obs: list[NDArray[np.float32]]
    action: list[NDArray[Any]]
    happened: NDArray[np.bool_]
    before: History


def record_trajectories(
    policy: Policy,
    domain: Domain,
    agent: int,
    state: NDArray[np.float64],
    warmup: int,
    steps: int,
    layout: ObservationLayout | None = None,
) -> Trajectories:
    """Trajectories of a policy, from behind a warm-up on.

    Args:
        policy: Chooses actions.
        domain: The domain.
        agent: Agent of the population.
        state: Initial full physical states, [E, S].
        warmup: Steps before the first that is kept.
        steps: Steps T that are kept.
        layout: Of the observations that are kept; None for the domain's own.
    """
    physics = domain.physics(**domain.agent_covariates(agent))
    taken = list(act(policy, domain, physics, state, warmup + steps))
    ended = np.logical_or.accumulate([np.zeros(len(state), dtype=np.bool_), *(step.terminated for step in taken)])
    if layout is not None:
        taken = _with_past(taken, layout, domain)
    kept = taken[warmup:]
    obs = [*(step.obs for step in kept), kept[-1].next_obs]
    happened = np.stack(list(~ended[warmup:-1]), axis=1)
    before = History.none(len(state), warmup, obs[0].shape[1], *kept[0].action.shape[1:])
    for step in taken[:warmup]:
        before = before.after(step.obs, step.action, step.next_obs)
    return Trajectories([each.astype(np.float32) for each in obs], [step.action for step in kept], happened, before)


def _with_past(taken: list[Step], layout: ObservationLayout, domain: Domain) -> list[Step]:
    """Steps of all rows whose observations hold their past."""
    space, now, wide = domain.action_space, layout.begin(taken[0].obs), list[Step]()
    n_actions = int(space.n) if isinstance(space, spaces.Discrete) else 0
    for step in taken:
        following = layout.after(now, action_components(step.action, n_actions), step.next_obs.astype(np.float32))
        wide.append(step._replace(obs=now.astype(np.float64), next_obs=following.astype(np.float64)))
        now = following
    return wide


def predict_along(dynamics: Dynamics, true: Trajectories) -> NDArray[np.float64]:
    """Mean over members of the observations that they predict from the first under the same actions, [E, T + 1, D].

    Args:
        dynamics: Model bound to the agent.
        true: What the agent did; dynamics that want to know are told the warm-up steps.
    """
    first, told = true.obs[0], planning_dynamics(dynamics).given(true.before)
    current = np.broadcast_to(first, (told.members, *first.shape))
    predicted = [first.astype(np.float64)]
    for action in true.action:
        current = told(current, action)
        if len(told.exogenous):
            current = current.copy()
            current[..., list(told.exogenous)] = true.obs[len(predicted)][:, list(told.exogenous)]
        predicted.append(current.mean(axis=0, dtype=np.float64)[:, : first.shape[1]])
    return np.stack(predicted, axis=1)


def format_error(error: float) -> str:
    """An error as tables show it: four places, or one digit where these would all be zero."""
    return f"{error:.4f}" if round(error, 4) else f"{error:.0e}"


def _episode_scores(
    true: NDArray[np.float64], guess: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RMSE and variance-weighted R² of each episode over the masked steps."""
    weight = mask[..., None] / mask.sum(axis=1)[:, None, None]  # [E, T, 1]
    # Values may not be finite where steps did not happen.
    true, guess = np.where(mask[..., None], true, 0.0), np.where(mask[..., None], guess, 0.0)
    error = (weight * (true - guess) ** 2).sum(axis=1)  # [E, D]
    mean = (weight * true).sum(axis=1, keepdims=True)
    variance = (weight * (true - mean) ** 2).sum(axis=1)
    spread = np.maximum(variance.sum(axis=1), np.finfo(np.float64).tiny)
    return np.sqrt(error.mean(axis=1)), 1.0 - error.sum(axis=1) / spread
