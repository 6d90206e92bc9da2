"""The learned simulator of one agent as a Gymnasium environment."""
