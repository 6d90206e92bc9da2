"""The table of finished jobs: a CSV file that rows are appended to."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from persim_gym.storage import reading, replaceable, replacing


class RowLog:
    """A CSV file of finished jobs: their rows, appended as they finish; those of earlier runs are kept.

    Attributes:
        path: The file.
        keys: Columns that identify a row; those of a job, where it has one row.
        values: Columns of its result.
    """

    def __init__(self, path: Path, keys: Sequence[str], values: Sequence[str], force: bool = False) -> None:
        """Reads what is there; a last line that was cut off is dropped.

        Args:
            path: The file.
            keys: Columns that identify a row.
            values: Columns of its result.
            force: Whether the file is begun anew, whatever is there.

        Raises:
            ValueError: If the file is no table or one of other columns, which is left as it is, or as `replaceable`.
        """
        self.path, self.keys, self.values = path, tuple(keys), tuple(values)
        self._rows: dict[tuple[str, ...], dict[str, str]] = {}
        columns = [*self.keys, *self.values]
        if replaceable(path, sign="").exists() and not force:
            with reading(path, "give another file, or --force to replace it"):
                text = path.read_text(encoding="utf-8")
                header = next(csv.reader(text.splitlines()[:1]), [])
                # A last line without its end was cut off.
                rows = list(csv.DictReader(text.rpartition("\n")[0].splitlines()))
            if text.strip() and header != columns:
                raise ValueError(
                    f"{path} is another table (its columns: {', '.join(header)}); give another file, or --force to "
                    "replace it"
                )
            for row in rows:
                if all(row.get(c) not in (None, "") for c in columns):
                    self._rows[tuple(row[k] for k in self.keys)] = row
        self._write_all()

    def get(self, key: Mapping[str, Any]) -> dict[str, str] | None:
        """The row of a key, or None if its job has not finished."""
        return self._rows.get(self._identity(key))

    def add(self, job: Mapping[str, Any], results: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Appends the rows of a finished job, all in one write; rows of the same keys are replaced.

        Args:
            job: Key columns that all of its rows share; others are left out.
            results: Its row, or a list of them: the value columns, and key columns that the job lacks.

        Raises:
            ValueError: If a column is missing or empty; then nothing is written.
        """
        listed = [results] if isinstance(results, Mapping) else results
        columns = (*self.keys, *self.values)
        rows = [{k: str(v) for k, v in {**job, **result}.items() if k in columns} for result in listed]
        for row in rows:
            if missing := [column for column in columns if not row.get(column)]:
                raise ValueError(f"a row of {self.path} lacks {', '.join(missing)}; it has {row}")
        new = {self._identity(row): row for row in rows}
        if self._rows.keys() & new.keys():
            self._rows |= new
            self._write_all()
            return
        with self.path.open("ab", buffering=0) as file:
            file.write(self._text(new.values()))
        self._rows |= new

    def _identity(self, key: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(key[k]) for k in self.keys)

    def _text(self, rows: Iterable[Mapping[str, str]], header: bool = False) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*self.keys, *self.values])
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    def _write_all(self) -> None:
        with replacing(self.path) as new:
            new.write_bytes(self._text(self._rows.values(), header=True))
