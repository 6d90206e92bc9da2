"""Static covariates that a dataset of a table keeps of its agents."""

from typing import Any

from minari import MinariDataset

from persim_gym.datasets.minari_files import REMEDY
from persim_gym.datasets.tables.write import TABLE
from persim_gym.storage import reading


def static_of(dataset: MinariDataset) -> dict[str, list[Any]]:
    """Values of static columns by column and number of the agent, None where there is none; empty for no such columns.

    Raises:
        ValueError: If the record is damaged.
    """
    with reading(f"dataset {dataset.spec.dataset_id}", REMEDY):
        found = dict(dataset.storage.metadata.get(TABLE, {}).get("static", {}))
        for name, values in found.items():
            kinds = {type(value) for value in values if value is not None}
            if not isinstance(values, list) or kinds - {float, int, str}:
                raise ValueError(f"static column {name} is no list of numbers or texts")
        return found
