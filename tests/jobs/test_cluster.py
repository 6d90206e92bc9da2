"""The same jobs on a Ray cluster: files travel without a shared disk, and what is killed is run again."""

import os
import pickle
import sys
import threading
import time
from pathlib import Path

import pytest
from support.jobs import read_model, square_somewhere, unlucky_square, write_model

from persim_gym.jobs import RowLog, run_jobs
from persim_gym.jobs.cluster import files_of, run_away, write_received
from persim_gym.storage import replacing


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_vouches_for_files_is_written_last_and_goes_first(tmp_path, monkeypatch):
    names = ("agent-1.json", "m/weights.bin", "agent-1/best.zip", "m/card.json", "m/ranks.csv")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    seen = []

    def watched(target):
        seen.append(target.relative_to(tmp_path).as_posix())
        assert "old" not in {text for name, text in files(tmp_path).items() if name.endswith(".json")}
        return replacing(target)

    monkeypatch.setattr("persim_gym.jobs.cluster.replacing", watched)
    write_received({name: b"new" for name in names}, tmp_path)
    assert seen == ["agent-1/best.zip", "m/ranks.csv", "m/weights.bin", "m/card.json", "agent-1.json"]
    assert set(files(tmp_path).values()) == {"new"}


def test_files_are_found_by_the_names_of_files_and_folders(tmp_path):
    for name in ("a/card.json", "a/deep/x.bin", "b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    everything = {name: name.encode() for name in ("a/card.json", "a/deep/x.bin", "b.txt")}
    assert files_of(tmp_path) == everything
    assert files_of(tmp_path, "a") == {name: everything[name] for name in ("a/card.json", "a/deep/x.bin")}
    assert files_of(tmp_path, "b.txt") == {"b.txt": b"b.txt"} and files_of(tmp_path, "none") == {}


def test_a_job_on_a_node_sees_copies_alone_and_sends_back_what_it_wrote():
    call = pickle.dumps((read_model, {}))
    copies = {"ant/card.json": b"card", "ant/deep/more.bin": b" and more"}
    answer, written = run_away(call, {"name": "ant"}, True, copies, {"bee/card.json": b""})
    outcome = pickle.loads(answer)
    assert outcome.result["text"] == "card and more" and outcome.result["seen"] == "ant bee"
    assert written == {"ant.txt": b"card and more"} and not os.path.exists(outcome.result["at"])
    answer, written = run_away(call, {"name": "ant"}, True)
    assert pickle.loads(answer).error.startswith("FileNotFoundError") and written == {}


def test_without_ray_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    log = RowLog(tmp_path / "log.csv", ("number",), ("square",))
    with pytest.raises(ValueError, match=r"the Ray backend needs Ray: pip install 'persim-gym\[ray\]'"):
        run_jobs(unlucky_square, [{"number": 1}], log, description="", backend="ray", progress=False)


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


@on_ray
def test_a_grid_ends_in_the_same_table_though_a_worker_is_killed(tmp_path, cluster, capsys):
    jobs = [{"number": n} for n in range(12)]
    tables = {}
    for backend, place in (("local", {"workers": 2}), ("ray", {"backend": "ray", "address": cluster.address})):
        marks = tmp_path / backend
        marks.mkdir()
        log = RowLog(tmp_path / f"{backend}.csv", ("number",), ("square",))
        unlucky = {"marks": str(marks), "fails": (7,), "dies": (5,)}
        rows = run_jobs(unlucky_square, jobs, log, description="", constants=unlucky, progress=False, **place)
        assert (marks / "died-5").exists() and [row["square"] for row in rows] == [str(n**2) for n in range(12)]
        tables[backend] = sorted((tmp_path / f"{backend}.csv").read_text().splitlines())
        said = sorted(capsys.readouterr().err.splitlines())
        said = [line for line in said if line.startswith("job number=")]
        assert [line.split(":")[0] for line in said] == ["job number=5 failed", "job number=7 failed"]
    assert tables["ray"] == tables["local"]


@on_ray
def test_a_second_stage_reads_on_other_nodes_what_the_first_one_wrote(tmp_path, cluster):
    jobs = [{"name": name} for name in ("ant", "bee", "cow", "dog")]
    found = {}
    for backend, place in (("local", {"workers": 1}), ("ray", {"backend": "ray", "address": cluster.address})):
        folder = tmp_path / backend
        folder.mkdir()
        first = RowLog(tmp_path / f"{backend}-1.csv", ("name",), ("length",))
        second = RowLog(tmp_path / f"{backend}-2.csv", ("name",), ("text", "seen", "at"))
        options = {"description": "", "folder": folder, "progress": False, **place}
        run_jobs(write_model, jobs, first, **options)
        rows = run_jobs(read_model, jobs, second, reads=lambda job: [job["name"], "none"], **options)
        found[backend] = files(folder), [row["text"] for row in rows]
    assert found["ray"] == found["local"] and len(found["ray"][0]) == 16
    assert [row["seen"] for row in rows] == ["ant", "bee", "cow", "dog"]
    assert str(tmp_path) not in {row["at"] for row in rows}


@on_ray
def test_what_a_node_was_doing_when_it_died_is_done_by_another(tmp_path, cluster, capsys):
    third, seen = cluster.add_node(num_cpus=1), []

    def kill_when_busy():
        while third.node_id not in seen:
            time.sleep(0.05)
            seen[:] = [path.read_text() for path in tmp_path.glob("*-*")]
        cluster.remove_node(third, allow_graceful=False)
        (tmp_path / "killed").touch()

    killer = threading.Thread(target=kill_when_busy, daemon=True)
    killer.start()
    log = RowLog(tmp_path / "log.csv", ("number",), ("square",))
    options = {"description": "", "constants": {"marks": str(tmp_path)}, "progress": False, "backend": "ray"}
    rows = run_jobs(square_somewhere, [{"number": n} for n in range(12)], log, **options, address=cluster.address)
    killer.join(60)
    assert [row["square"] for row in rows] == [str(n**2) for n in range(12)] and third.node_id in seen
    assert len(list(tmp_path.glob("*-*"))) > 12  # At least one was started twice.


@on_ray
def test_jobs_run_on_a_ray_of_this_machine_where_no_address_is_given(tmp_path, importable):
    pytest.importorskip("ray")
    log = RowLog(tmp_path / "log.csv", ("number",), ("square",))
    jobs = [{"number": n} for n in (3, 4)]
    constants = {"marks": str(tmp_path)}
    rows = run_jobs(
        unlucky_square, jobs, log, description="", constants=constants, progress=False, backend="ray", workers=1
    )
    assert [row["square"] for row in rows] == ["9", "16"]
