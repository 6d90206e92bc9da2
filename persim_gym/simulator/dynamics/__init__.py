"""The model bound to agents: one, many, or one that learns."""
