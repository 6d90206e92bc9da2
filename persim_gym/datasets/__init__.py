"""Minari datasets: one logged episode an agent."""
