"""Each library of benchmarks/clients.py runs on our environments and datasets, where it is installed."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
clients = import_module("clients")
QUICK = {"Gymnasium, checker", "Gymnasium, wrappers"}
CASES = [
    pytest.param(client, id=client.title, marks=() if client.title in QUICK else pytest.mark.slow)
    for client in clients.CLIENTS
]


@pytest.mark.filterwarnings("ignore")  # What other libraries warn of is not ours to mend.
@pytest.mark.parametrize("client", CASES)
def test_a_client_takes_what_is_here(client, tmp_path, monkeypatch):
    for module in client.modules:
        pytest.importorskip(module)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    assert client.run()


def test_one_that_is_not_installed_or_fails_is_told_in_its_row():
    def fail():
        raise TypeError("no such keyword\nas that")

    missing = clients.Client("none", ("no_such_library.part",), "none", fail)
    assert clients.outcome(missing) == "not installed"
    assert clients.outcome(missing._replace(modules=("sys",))) == "ERROR TypeError: no such keyword"
    assert clients.outcome(missing._replace(modules=("sys",), run=lambda: "a step")) == "ok: a step (0 s)"
