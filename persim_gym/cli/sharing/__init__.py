"""Verbs of `persim share`."""
