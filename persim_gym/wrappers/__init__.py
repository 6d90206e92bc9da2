"""Gymnasium wrappers that bring a simulator to an environment: the agent's factor, and a guard of the real one."""

from typing import TYPE_CHECKING, Any

from persim_gym.wrappers.latent_factor import AgentObservation, latent_factors
from persim_gym.wrappers.trust_guard import Handover, TrustGuard, usual_surprise

if TYPE_CHECKING:
    from persim_gym.wrappers.agent_vec_env import AgentVecEnv

__all__ = ["AgentObservation", "AgentVecEnv", "Handover", "TrustGuard", "latent_factors", "usual_surprise"]


def __getattr__(name: str) -> Any:
    """Loads the one wrapper that needs an extra when it is first used."""
    if name != "AgentVecEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from persim_gym.wrappers.agent_vec_env import AgentVecEnv

    return AgentVecEnv
