"""Jobs that go on where they stopped: every row is kept, and none is done twice."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.jobs import square

from persim_gym import jobs as runs
from persim_gym.jobs import RowLog, run_jobs


def new_log(path):
    return RowLog(path, ("agent", "seed"), ("value",))


def test_a_log_keeps_its_rows(tmp_path):
    path = tmp_path / "new" / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -123.5})
    for each in (log, new_log(path)):
        assert each.get({"agent": 3, "seed": 0}) == {"agent": "3", "seed": "0", "value": "-123.5"}
        assert each.get({"agent": 3, "seed": 1}) is None
    assert [p.name for p in path.parent.iterdir()] == ["log.csv"]


def test_rows_are_found_by_their_keys_alone(tmp_path):
    log = new_log(tmp_path / "log.csv")
    log.add({"seed": 0, "agent": 3, "other": 9}, {"value": 1})
    assert log.get({"agent": "3", "seed": 0})["value"] == "1"


@pytest.mark.parametrize("kept", range(1, 9))
def test_a_line_that_was_cut_off_anywhere_is_dropped(tmp_path, kept):
    path = tmp_path / "log.csv"
    log = new_log(path)
    log.add({"agent": 3, "seed": 0}, {"value": -1.5})
    whole = path.read_bytes()
    log.add({"agent": 4, "seed": 0}, {"value": -123})
    path.write_bytes(path.read_bytes()[: len(whole) + kept])  # of "4,0,-123\r\n"
    again = new_log(path)
    assert again.get({"agent": 4, "seed": 0}) is None
    assert again.get({"agent": 3, "seed": 0})["value"] == "-1.5"
    again.add({"agent": 4, "seed": 0}, {"value": -123})
    assert new_log(path).get({"agent": 4, "seed": 0})["value"] == "-123"


@pytest.mark.parametrize(
    "text", ["agent,value\n3,-1.5\n", "agent,seed,value,more\n3,0,-1.5,2\n", "\nmy notes\n", "notes"]
)
def test_another_table_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="log.csv is another table .* give another file, or --force to replace it"):
        new_log(path)
    assert path.read_text(encoding="utf-8") == text
    path.write_text("", encoding="utf-8")
    assert new_log(path).get({"agent": 3, "seed": 0}) is None


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


def test_a_failed_job_is_an_error_and_those_before_it_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "ProcessPoolExecutor", lambda workers, **_: ThreadPoolExecutor(workers))  # starts at once
    log = jobs_log(tmp_path / "log.csv")
    with pytest.raises(ValueError, match="no"):
        run_jobs(square, [{"number": 3}, {"number": -1}], log, description="", workers=1, progress=False)
    assert jobs_log(tmp_path / "log.csv").get({"number": 3})["square"] == "9"


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
    out, tests = tmp_path / "log.csv", str(Path(__file__).parent)
    command = [sys.executable, str(tmp_path / "script.py"), str(out)]
    paths = {"PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    process = subprocess.Popen(command, env=os.environ | paths, stderr=subprocess.PIPE, start_new_session=True)
    while not out.exists() or out.read_text().count("\n") < 2:  # The job that takes no time has its row.
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: workers get it too
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and b"KeyboardInterrupt" in said and b"leaked" not in said
    assert out.read_text().splitlines() == ["number,value", "0,0"]


def test_a_log_can_be_begun_anew(tmp_path):
    path = tmp_path / "log.csv"
    new_log(path).add({"agent": 3, "seed": 0}, {"value": 1})
    assert RowLog(path, ("agent", "seed"), ("value",), force=True).get({"agent": 3, "seed": 0}) is None
    path.write_text("another table\n", encoding="utf-8")
    assert RowLog(path, ("agent", "seed"), ("value",), force=True).get({"agent": 3, "seed": 0}) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"agent,seed,value\n3,0," + b"9" * 200_000 + b"\n", "field larger than field limit"),
        (b"agent,seed,value\n3,0,\xff\n", "utf-8"),
    ],
    ids=["long field", "bytes"],
)
def test_a_file_that_is_no_table_is_one_line_and_left_as_it_is(content, said, tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{path} cannot be read \([^\n]*{said}[^\n]*\); give another file"):
        new_log(path)
    assert path.read_bytes() == content
