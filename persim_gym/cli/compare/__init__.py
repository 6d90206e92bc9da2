"""The verb that compares policies."""
