"""The learned simulator of all agents: model, training, files."""
