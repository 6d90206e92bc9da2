"""Fitted Q evaluation: what a candidate earns by the logged transitions alone, without a simulator.

The Q function is a shallow network whose hidden layer is random and whose last layer is solved for by ridge regression,
over all agents: beside observation and action it sees who the agent is, by the simulator's latent factor. Q values of
h steps to go come from those of h - 1, from 0 on, so that returns without discount are those of episodes of that
length, and nothing diverges. Of an objective that is the reward of the last step alone, Q values pass that on.

It is a second opinion with limits of its own. It extrapolates to actions that were never logged near an observation;
rewards or ends at a threshold that few logs meet are smeared; and of the agent it knows what the factor says.

Source: fitted Q evaluation, Le, Voloshin and Yue 2019; a random hidden layer, Huang, Zhu and Siew 2006.
"""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from persim_gym.actions import model_actions
from persim_gym.comparison.acting import Acting
from persim_gym.comparison.setting import TERMINAL, Sampling, Setting
from persim_gym.observation_layout import action_components
from persim_gym.simulator.simulator import Simulator

MAX_ROWS = 8000
"""Logged transitions that Q is fitted to: the agent's own, up to a half, and others drawn from all agents."""
HIDDEN = 300
"""Width of the hidden layer."""
RIDGE = 1e-5
"""Of the regression, a transition."""
MAX_EMBEDDING = 3
"""Principal components of the latent factor."""


class FittedQ:
    """Q functions of candidates for one agent."""

    def __init__(self, setting: Setting, agent: int, sampling: Sampling) -> None:
        """Draws the transitions and the hidden layer.

        Args:
            setting: The simulator, and its data.
            agent: Number of the agent.
            sampling: Longest episode, discount, objective and seed.

        Raises:
            ValueError: If the data are not here.
        """
        self._setting, self._agent, self._sampling = setting, agent, sampling
        rng, data = np.random.default_rng([sampling.seed, agent, 4]), setting.data
        own = np.flatnonzero(data.agent == agent)
        own = rng.permutation(own)[: MAX_ROWS // 2]
        others = rng.permutation(len(data))[: MAX_ROWS - len(own)]
        self._data = data.select(np.isin(np.arange(len(data)), np.concatenate([own, others])))
        self._mean, self._std = data.obs.mean(axis=0), np.maximum(data.obs.std(axis=0), 1e-6)
        size = len(self._mean) + self._embedding.shape[1] + self._components(self._data.action).shape[1]
        self._weight = rng.normal(size=(size, HIDDEN)) / np.sqrt(size) * 2.0
        self._bias = rng.uniform(-2.0, 2.0, HIDDEN)

    @cached_property
    def _embedding(self) -> NDArray[np.float64]:
        """Who each agent of the simulator is, [N, up to `MAX_EMBEDDING`]."""
        model = self._setting.model
        if not isinstance(model, Simulator):
            return np.zeros((model.n_agents, 0))
        with torch.no_grad():
            factors = model.model.agent_encoder(torch.arange(model.n_agents))[0].double().numpy()
        centred = factors - factors.mean(axis=0)
        _, _, directions = np.linalg.svd(centred, full_matrices=False)
        parts = centred @ directions[:MAX_EMBEDDING].T
        return np.asarray(parts / np.maximum(parts.std(axis=0), 1e-9))

    def _components(self, action: NDArray[np.generic]) -> NDArray[np.float32]:
        """What the network sees of actions in the form that models see, [B, A]."""
        components = action_components(action, self._setting.model.spec.n_actions)
        return 2.0 * components if self._setting.model.spec.n_actions else components

    def _features(
        self, obs: NDArray[np.float32], action: NDArray[np.generic], agent: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        seen = [np.clip((obs - self._mean) / self._std, -5.0, 5.0), self._embedding[agent], self._components(action)]
        inputs = np.concatenate(seen, axis=1)
        return np.concatenate([np.maximum(inputs @ self._weight + self._bias, 0.0), inputs, np.ones((len(obs), 1))], 1)

    @cached_property
    def _regression(self) -> tuple[NDArray[np.float32], tuple[NDArray[np.float64], bool], NDArray[np.float64]]:
        """Features of the transitions, the factored matrix of the regression, and rewards."""
        action = np.asarray(model_actions(self._setting.model.action_space, self._data.action))
        features = self._features(self._data.obs, action, self._data.agent)
        matrix = features.T @ features + RIDGE * len(features) * np.eye(features.shape[1])
        # The steps read all of these again and again: half the bytes, twice the speed.
        return features.astype(np.float32), cho_factor(matrix), self._setting.rewards(self._data)

    def value(self, acting: Acting, starts: NDArray[np.float32]) -> float:
        """What a candidate's episodes are worth, the mean over first observations, [B, D].

        Errors as `Acting.begin`.
        """
        features, factored, reward = self._regression
        steps, discount = self._sampling.limit(self._setting.model.episode_steps), self._sampling.discount
        ahead = self._features(self._data.next_obs, acting.begin(self._data.next_obs), self._data.agent)
        following = ahead.astype(np.float32)
        live, ended = discount * ~self._data.terminated, self._data.terminated
        first = self._features(starts, acting.begin(starts), np.full(len(starts), self._agent))
        weight = np.zeros(features.shape[1])
        low = high = 0.0
        least, most = float(reward.min()), float(reward.max())
        for step in range(steps):
            later = np.clip(following @ weight.astype(np.float32), low, high)
            # A reward that is not the last one of its episode counts for nothing where the objective is terminal.
            passed = step > 0 and self._sampling.objective == TERMINAL
            now = np.where(ended, reward, 0.0) if passed else reward
            weight = cho_solve(factored, (now + live * later).astype(np.float32) @ features)
            earned = (0.0, 0.0) if passed else (least, most)
            low, high = min(least, earned[0] + discount * low), max(most, earned[1] + discount * high)
        return float(np.clip(first @ weight, low, high).mean())
