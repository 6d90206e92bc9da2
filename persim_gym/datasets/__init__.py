"""Minari datasets: logged episodes of many agents."""

from persim_gym.datasets.load import load, load_minari
from persim_gym.datasets.minari_adapter import labels_of
from persim_gym.datasets.registry import DATASETS, DatasetSpec
from persim_gym.datasets.tables.from_table import from_table

__all__ = ["DATASETS", "DatasetSpec", "from_table", "labels_of", "load", "load_minari"]
