"""A table of machines, as somebody has it on disk."""

import numpy as np

VALVES = ("closed", "half", "open")


def machine_rows(machines: int = 60, steps: int = 233, missing: float = 0.01, seed: int = 0) -> dict[str, list]:
    """Columns of a table of machines that log every minute; machine M-007 stands still for ten hours.

    The valve cools a machine, each by a strength of its own; the reward is the distance to 50 °C.
    """
    rng = np.random.default_rng(seed)
    names = ("machine_id", "timestamp", "temp", "pressure", "valve", "load", "age", "reward", "failed")
    columns: dict[str, list] = {name: [] for name in names}
    start = np.datetime64("2024-01-01T00:00:00")
    for machine in range(machines):
        temp, pressure = rng.normal(50, 5), rng.normal(1, 0.2)
        for step in range(steps):
            valve = int(rng.integers(3))
            pause = 600 if machine == 7 and step >= steps // 2 else 0
            values = (
                f"M-{machine:03d}",
                str(start + np.timedelta64(step + pause, "m")).replace("T", " "),
                None if rng.random() < missing else round(temp, 4),
                None if rng.random() < missing else round(pressure, 4),
                VALVES[valve],
                round(float(np.sin(step / 20)), 4),
                20 + machine,
                round(-abs(temp - 50), 4),
                int(step == steps - 1 and machine % 2 == 0),
            )
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            temp = 0.95 * temp + 2.5 - (valve - 1) * (0.5 + 0.02 * machine) + rng.normal(0, 0.1)
            pressure = 0.9 * pressure + 0.1 + 0.02 * valve
    return columns


def write_csv(path, columns, delimiter=",", decimal=".", encoding="utf-8"):
    """Writes columns as a CSV file; None is an empty cell."""

    def cell(value):
        text = "" if value is None else str(value)
        return text.replace(".", decimal) if isinstance(value, float) else text

    lines = [delimiter.join(columns)]
    lines += [delimiter.join(map(cell, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


SMALL = {"agent": "id", "time": "t", "obs": ["x"], "action": "a", "reward": "r"}
"""Roles of the columns of `small_rows`."""


def small_rows(**changes) -> dict[str, list]:
    """Two agents, A-1 and A-2, of four rows each; other columns by name, or without one where it is None."""
    columns = {
        "id": ["A-1"] * 4 + ["A-2"] * 4,
        "t": [0.0, 1.0, 2.0, 3.0] * 2,
        "x": [0.0, 1.5, 2.5, 3.5, 10.0, 11.5, 12.5, 13.5],
        "a": ["up", "down", "up", "up", "down", "down", "up", "down"],
        "r": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8],
        **changes,
    }
    return {name: values for name, values in columns.items() if values is not None}
