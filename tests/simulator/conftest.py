"""Data that several tests of the simulator share."""

import pytest
from support.walls import bouncing


@pytest.fixture(scope="session")
def pucks():
    return bouncing()
