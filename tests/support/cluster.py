"""A Ray cluster of two nodes on this machine, for tests that run where Ray is installed."""

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def importable():
    """Ray's processes find the modules of jobs, as on nodes where they are installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]))
        yield


@pytest.fixture(scope="module")
def cluster(importable):
    """A cluster of two nodes of one core on this machine."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        nodes.wait_for_nodes()
        yield nodes
    finally:
        nodes.shutdown()


of_ray = [
    pytest.mark.slow,
    # Ray leaves sockets open, and warns of its own defaults.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def on_ray(test):
    for mark in of_ray:
        test = mark(test)
    return test
