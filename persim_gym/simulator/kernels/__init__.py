"""Compiled code on plain arrays: predictions, rollouts and training steps; knows no model."""
