"""Noise of transitions: how far what follows lies from its expectation, and draws of it for rollouts."""
