"""Gymnasium wrappers that bring a simulator to an environment: the agent's factor, and a guard of the real one."""

from persim_gym.wrappers.latent_factor import AgentObservation, AgentVecEnv, latent_factors
from persim_gym.wrappers.trust_guard import Handover, TrustGuard, usual_surprise

__all__ = ["AgentObservation", "AgentVecEnv", "Handover", "TrustGuard", "latent_factors", "usual_surprise"]
