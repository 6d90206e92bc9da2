"""Time and memory of importing a large CSV file: `python benchmarks/imports.py` makes it, imports it, prints both.

The file and the dataset go into a temporary folder. The import runs in a process of its own, whose peak memory is the
one that is printed.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

COLUMNS = "machine_id,timestamp,temp,pressure,flow,valve,load,reward"
IMPORT = (
    "import sys; from persim_gym.cli import main; sys.argv = ['persim', 'import', sys.argv[1], *sys.argv[2].split()]; "
    "main()"
)
ROLES = (
    "--agent machine_id --time timestamp --obs temp,pressure,flow --action valve --reward reward --exogenous load "
    "--name my/large-v0"
)


def write_table(path: Path, rows: int, machines: int, missing: float, seed: int = 0) -> None:
    """Writes a table of machines that log every minute, all machines of a minute one after the other.

    Args:
        path: CSV file.
        rows: Number of rows.
        machines: Number of machines.
        missing: Share of missing cells in the observations.
        seed: Source of all randomness.
    """
    rng, names = np.random.default_rng(seed), np.array([f"M-{i:05d}" for i in range(machines)])
    minutes, start = rows // machines, np.datetime64("2024-01-01T00:00", "s")
    writer, block = None, max(1, 500_000 // machines)
    for first in range(0, minutes, block):
        count = min(block, minutes - first)
        time_of_row = np.repeat(start + 60 * np.arange(first, first + count).astype("timedelta64[s]"), machines)
        size = count * machines
        columns: dict[str, object] = {"machine_id": np.tile(names, count), "timestamp": time_of_row}
        for name in ("temp", "pressure", "flow"):
            values = rng.normal(50, 5, size).round(4)
            columns[name] = pa.array(values, mask=rng.random(size) < missing)
        columns["valve"] = np.array(["closed", "half", "open"])[rng.integers(3, size=size)]
        columns["load"] = rng.normal(size=size).round(4)
        columns["reward"] = rng.normal(size=size).round(4)
        table = pa.table(columns)
        writer = writer or pyarrow.csv.CSVWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--missing", type=float, default=0.0, help="share of missing cells")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        write_table(path, options.rows, options.machines, options.missing)
        print(f"{options.rows:,} rows, {path.stat().st_size / 1e6:,.0f} MB of CSV ({COLUMNS})", flush=True)
        environment = {**os.environ, "MINARI_DATASETS_PATH": folder, "PERSIM_HOME": folder}
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", IMPORT, str(path), ROLES], env=environment, check=False)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
        print(f"status {done.returncode}, {seconds:.0f} s ({cpu:.0f} s of the processor), peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
