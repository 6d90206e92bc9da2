"""A user's folder of its own for every test of behavior policies."""

import pytest
import torch


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's folder of this test alone."""
    monkeypatch.setenv("PERSIM_HOME", str(tmp_path))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
