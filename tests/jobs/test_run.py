"""Jobs that go on where they stopped: none is done twice, none is lost, and what fails is tried again and told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.jobs import (
    WorkersHere,
    doomed_square,
    hear_ctrl_c,
    read_model,
    square,
    two_rows,
    unlucky_square,
    write_model,
)

from persim_gym.jobs import JobsFailed, RowLog, run_jobs, run_unlogged


@pytest.fixture
def here(monkeypatch):
    """Jobs run in this process."""
    monkeypatch.setattr("persim_gym.jobs.run.LocalWorkers", WorkersHere)


def jobs_log(path):
    return RowLog(path, ("number",), ("square", "process"))


def test_jobs_run_in_workers_once_and_come_back_in_order(tmp_path):
    log = jobs_log(tmp_path / "log.csv")
    log.add({"number": 5}, {"square": "done before", "process": 0})
    jobs = [{"number": n} for n in (4, 5, 2)]
    keywords = {"description": "squares", "constants": {"plus": 1}, "workers": 1, "progress": False}
    rows = run_jobs(square, jobs, log, **keywords)
    assert [row["square"] for row in rows] == ["17", "done before", "5"]
    assert str(os.getpid()) not in {row["process"] for row in rows}
    assert run_jobs(None, jobs, jobs_log(tmp_path / "log.csv"), **keywords) == rows  # nothing left to run


def square_log(path):
    return RowLog(path, ("number",), ("square",))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_or_is_killed_once_is_told_and_tried_again(tmp_path, capsys, workers):
    log = square_log(tmp_path / "log.csv")
    marks = {"marks": str(tmp_path), "fails": (3,), "dies": (1, 4)}
    jobs = [{"number": n, "kind": "any"} for n in range(6)]
    options = {"description": "", "drop": ("kind",), "workers": workers, "progress": False}
    rows = run_jobs(unlucky_square, jobs, log, constants=marks, **options)
    assert [row["square"] for row in rows] == ["0", "1", "4", "9", "16", "25"]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7
    said = sorted(capsys.readouterr().err.splitlines())
    again = "; it is tried again after the others"
    killed = "failed: its process was killed (SIGKILL: out of memory?)"
    assert said[0] == f"job number=1, kind=any {killed}{again}"
    assert said[1].startswith("job number=3, kind=any failed: RuntimeError: not yet, number 3 (jobs.py:")
    assert said[1].endswith(again)
    assert said[2:] == [f"job number=4, kind=any {killed}{again}"]


def test_what_fails_once_is_told_and_tried_again_after_the_others(tmp_path, capsys, here):
    seen, marks = [], {"marks": str(tmp_path), "fails": (3,)}
    run_unlogged(
        unlucky_square,
        [{"number": n} for n in (2, 3, 4)],
        lambda job, result: seen.append((job["number"], result["square"])),
        description="",
        constants=marks,
        workers=1,
        progress=False,
    )
    assert seen == [(2, 4), (4, 16), (3, 9)]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("job number=3 failed: RuntimeError: not yet, number 3 (jobs.py:")
    assert line.endswith("; it is tried again after the others")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_twice_is_listed_and_the_others_are_kept(tmp_path, capsys, workers, here):
    options = {"description": "", "workers": workers, "progress": False}
    jobs, path = [{"number": n} for n in (2, -1, 1, -2)], tmp_path / "log.csv"
    with pytest.raises(JobsFailed, match="2 of 4 jobs failed 2 times; .* the same command tries these again") as failed:
        run_jobs(square, jobs, jobs_log(path), **options)
    lines = str(failed.value).splitlines()[1:]
    assert len(lines) == 2 and sorted(line.split(" (jobs.py:")[0] for line in lines) == [
        "  number=-1: ValueError: no",
        "  number=-2: ValueError: no",
    ]
    assert {job["number"] for job, _ in failed.value.failures} == {-1, -2}
    assert len(capsys.readouterr().err.splitlines()) == 4
    again = jobs_log(path)
    assert [again.get(job) is not None for job in jobs] == [True, False, True, False]


@pytest.mark.slow
def test_a_job_that_always_kills_its_process_takes_no_other_with_it(tmp_path, capsys):
    options = {"description": "", "constants": {"dies": (0, 3)}, "workers": 2, "progress": False}
    jobs = [{"number": n} for n in range(6)]
    with pytest.raises(JobsFailed) as failed:
        run_jobs(doomed_square, jobs, square_log(tmp_path / "log.csv"), **options)
    assert sorted(job["number"] for job, _ in failed.value.failures) == [0, 3]
    log = square_log(tmp_path / "log.csv")
    assert [log.get(job) is not None for job in jobs] == [False, True, True, False, True, True]
    assert len(capsys.readouterr().err.splitlines()) == 4


def metrics_of(job):
    return [{**job, "metric": metric} for metric in ("half", "double")]


def test_a_job_of_several_rows_has_ended_when_all_of_them_are_there(tmp_path, here):
    log = RowLog(tmp_path / "log.csv", ("number", "metric"), ("value",))
    log.add({"number": 2}, [{"metric": "half", "value": "known"}, {"metric": "double", "value": "known"}])
    log.add({"number": 4}, {"metric": "half", "value": "of a job that was cut off"})
    jobs = [{"number": n} for n in (2, 4, 6)]
    options = {"description": "", "rows": metrics_of, "workers": 1, "progress": False}
    rows = run_jobs(two_rows, jobs, log, **options)
    assert [(row["number"], row["metric"], row["value"]) for row in rows] == [
        ("2", "half", "known"),
        ("2", "double", "known"),
        ("4", "half", "2.0"),
        ("4", "double", "8"),
        ("6", "half", "3.0"),
        ("6", "double", "12"),
    ]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 7
    with pytest.raises(ValueError, match="job number=8 has returned no row of number=8, metric=double"):
        run_jobs(two_rows, [{"number": 8}], log, constants={"only": ("half",)}, **options)


def test_jobs_read_what_earlier_jobs_wrote_into_the_folder(tmp_path, here):
    folder, jobs = tmp_path / "models", [{"name": name} for name in ("ant", "bee")]
    folder.mkdir()
    options = {"description": "", "folder": folder, "workers": 1, "progress": False}
    run_jobs(write_model, jobs, RowLog(tmp_path / "a.csv", ("name",), ("length",)), **options)
    second = RowLog(tmp_path / "b.csv", ("name",), ("text", "seen", "at"))
    rows = run_jobs(read_model, jobs, second, reads=lambda job: [job["name"]], **options)
    assert [row["text"] for row in rows] == [
        "card.json of antdeep/more.bin of ant",
        "card.json of beedeep/more.bin of bee",
    ]
    assert {row["at"] for row in rows} == {str(folder)} and (folder / "bee.txt").is_file()


def test_results_are_handed_on_and_what_cannot_be_sent_back_has_failed(here):
    seen = []
    run_unlogged(pow, [], lambda job, result: seen.append(result), description="", progress=False)
    with pytest.raises(JobsFailed, match="TypeError|AttributeError|PicklingError"):
        jobs = [{"number": 2}, {"number": 3}]
        run_unlogged(
            half_or_function, jobs, lambda job, result: seen.append((job["number"], result)), description="",
            workers=1, progress=False,
        )  # fmt: skip
    assert seen == [(2, 1.0)]


def half_or_function(number):
    return number / 2 if number % 2 == 0 else lambda: None


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"backend": "slurm"}, "backend 'slurm' is not one of local, ray"),
        ({"address": "auto"}, "address 'auto' is that of a Ray cluster; add --backend ray, or leave it out"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(tmp_path, place, said):
    with pytest.raises(ValueError, match=said):
        run_jobs(square, [], jobs_log(tmp_path / "log.csv"), description="", **place)


UNGUARDED = """
from support.jobs import square
from persim_gym.jobs import run_unlogged

run_unlogged(square, [{"number": 1}, {"number": 2}], print, description="", workers=1, progress=False)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and 'do so under `if __name__ == "__main__":`' in done.stderr


INTERRUPTED = """
import sys
from pathlib import Path
from support.jobs import soon_or_never
from persim_gym.jobs import RowLog, run_jobs

if __name__ == "__main__":
    log = RowLog(Path(sys.argv[1]), ("number",), ("value",))
    run_jobs(soon_or_never, [{"number": n} for n in (0, 1, 2)], log, description="jobs", workers=2, progress=False)
"""


@pytest.mark.slow
def test_ctrl_c_ends_workers_in_the_middle_of_their_jobs_and_keeps_rows(tmp_path):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    out, tests = tmp_path / "log.csv", str(Path(__file__).parents[1])
    command = [sys.executable, str(tmp_path / "script.py"), str(out)]
    paths = {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    options = {"stderr": subprocess.PIPE, "start_new_session": True, "preexec_fn": hear_ctrl_c}
    process = subprocess.Popen(command, env=os.environ | paths, **options)
    while not out.exists() or out.read_text().count("\n") < 2:  # The job that takes no time has its row.
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: workers get it too
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and b"KeyboardInterrupt" in said and b"leaked" not in said
    assert out.read_text().splitlines() == ["number,value", "0,0"]
