"""Agents' latent factors in closed form: statistics of transitions, posterior, new agents."""
