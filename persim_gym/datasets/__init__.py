"""Minari datasets: one logged episode an agent."""

from persim_gym.datasets.load import load, load_minari
from persim_gym.datasets.registry import DATASETS, DatasetSpec

__all__ = ["DATASETS", "DatasetSpec", "load", "load_minari"]
