"""Rules as policies, and the policy that acts for an agent, whether it is a rule or was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.datasets.behavior.policies import TEST, load_behavior_policy
from persim_gym.envs import Domain
from persim_gym.envs.behavior import Rule
from persim_gym.evaluation.acting import Policy


@dataclass(frozen=True, eq=False)
class RulePolicy:
    """A domain's rule as a policy of some agents; what it remembers is in the `state` of `predict`.

    Attributes:
        rule: The rule.
        covariates: Of the agents by name: a number for all rows, or one a row, [B].
        rng: Source of the errors that it makes.
    """

    rule: Rule
    covariates: Mapping[str, Any]
    rng: np.random.Generator

    def predict(
        self,
        observation: Any,
        state: NDArray[np.float64] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Actions of a batch of observations, [B, D] or [D], and the memory for the next call.

        Args:
            observation: [B, D], or [D] of one row.
            state: The memory of the last call; None where all rows begin an episode.
            episode_start: Whether each row begins one, bool [B]; its memory is then made anew. None for none.
            deterministic: Ignored; a rule errs at random whatever it is asked.
        """
        obs = np.atleast_2d(observation)
        if state is None:
            state = self.rule.start(self.covariates, len(obs), self.rng)
        elif episode_start is not None and np.any(episode_start):
            begins = np.reshape(episode_start, (-1, 1)).astype(np.bool_)
            state = np.where(begins, self.rule.start(self.covariates, len(obs), self.rng), state)
        actions, state = self.rule.act(obs, state, self.rng)
        return (actions if np.ndim(observation) > 1 else actions[0]), state


def policy_of_agent(domain: Domain, agent: int, seed: int = 0) -> Policy:
    """The policy that acts for an agent where its simulator is measured.

    Args:
        domain: The domain.
        agent: Agent of the population.
        seed: Seed of a rule's errors.

    Returns:
        The domain's rule, which knows the agent; else its trained test policy, the same for all agents.

    Raises:
        MissingPolicyError: If it has not been trained.
        ValueError: If there is no such agent.
    """
    if domain.rule is None:
        return load_behavior_policy(domain.name, TEST)
    return RulePolicy(domain.rule, domain.agent_covariates(agent), np.random.default_rng([seed, agent]))
