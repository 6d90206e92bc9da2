"""Tables from files and frames, as Arrow has them."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from persim_gym.datasets.tables.roles import Dialect
from persim_gym.extras import required
from persim_gym.suggest import suggestion

_DELIMITERS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}  # As they are written on the command line.
_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None")
_HEADER_BYTES = 2**20  # A header is no longer than that.
_FILES = "CSV (.csv, .tsv, .txt, also .gz) or Parquet (.parquet)"


def arrow() -> Any:
    """The library that reads tables.

    Raises:
        MissingExtraError: If it is not installed.
    """
    return required("pyarrow", "tables", "tables need pyarrow")


def read_table(source: Any, columns: Sequence[str] | None, dialect: Dialect, texts: Sequence[str] = ()) -> Any:
    """Reads a table.

    Args:
        source: Path of a CSV or Parquet file, several of them, or a frame: of pandas, Polars or Arrow.
        columns: Those that are wanted; None for all.
        dialect: How the text of CSV files is written.
        texts: Columns of CSV files that are texts, whatever they look like.

    Returns:
        A `pyarrow.Table` of these columns.

    Raises:
        ValueError: If there is no such file or column, it cannot be read, or has less than two rows.
    """
    pa = arrow()
    if isinstance(source, str | Path):
        source = [source]
    if isinstance(source, Sequence):
        if not source:
            raise ValueError("no table is given; name a CSV or Parquet file")
        named = [str(path) for path in source]
        parts = [_read_file(pa, Path(path).expanduser(), columns, dialect, texts) for path in source]
    else:
        named, parts = ["the table"], [_read_frame(pa, source, columns)]
    table = parts[0]
    if len(parts) > 1:
        try:
            table = pa.concat_tables(parts, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"{named[0]} and the other tables have columns of different kinds: {_line(error)}"
            ) from error
    if table.num_rows < 2:
        rows = "one row" if table.num_rows else "no rows"
        raise ValueError(f"{' and '.join(named)} has {rows}; a transition takes two rows of one agent")
    return table


def check_columns(name: str, there: Sequence[str], wanted: Sequence[str]) -> None:
    """Checks that each wanted column is there, once.

    Raises:
        ValueError: If one is not.
    """
    counts = Counter(there)
    for column in wanted:
        if counts[column] > 1:
            raise ValueError(f"{name} has {counts[column]} columns {column!r}; rename all but one")
        if not counts[column]:
            raise ValueError(f"{name} has no column {column!r}; {suggestion(column, there)}")


def _read_frame(pa: Any, frame: Any, columns: Sequence[str] | None) -> Any:
    """A frame as a table; of pandas, its index is no column."""
    there = [str(name) for name in getattr(frame, "columns", getattr(frame, "column_names", ()))]
    if columns is not None and there and not isinstance(frame, pa.Table):
        check_columns("the table", there, columns)
        frame = frame[list(columns)]
    try:
        table = frame if isinstance(frame, pa.Table) else pa.table(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"the table has a column of mixed types ({_line(error)}); make it numbers or text") from error
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"a {type(frame).__name__} is no table; give a path, or a frame of pandas, Polars or Arrow"
        ) from error
    if columns is None:
        return table
    check_columns("the table", table.column_names, columns)
    return table.select(list(columns))


def _read_file(pa: Any, path: Path, columns: Sequence[str] | None, dialect: Dialect, texts: Sequence[str]) -> Any:
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else Path(".")
        others = [p.name for p in folder.iterdir() if p.is_file() and p.suffix == path.suffix]
        raise ValueError(f"there is no file {path}; {suggestion(path.name, others)}")
    if not path.is_file():
        raise ValueError(f"{path} is no file; give a table as {_FILES}")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty; export the table again, with a header and its rows")
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(pa, path, columns)
    if suffix.lower() in (".csv", ".tsv", ".txt", ".dat"):
        delimiter = dialect.delimiter or ("tab" if suffix.lower() == ".tsv" else ",")
        delimiter = "\t" if delimiter in ("tab", r"\t") else delimiter
        return _read_csv(pa, path, columns, dialect, delimiter, texts)
    raise ValueError(f"{path} is neither CSV nor Parquet by its name; save the table as {_FILES}")


def _read_parquet(pa: Any, path: Path, columns: Sequence[str] | None) -> Any:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        if columns is not None:
            check_columns(str(path), file.schema_arrow.names, columns)
        return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no Parquet file that can be read ({_line(error)}); export it again") from error


def _read_csv(
    pa: Any, path: Path, columns: Sequence[str] | None, dialect: Dialect, delimiter: str, texts: Sequence[str]
) -> Any:
    import pyarrow.csv

    there = _header(pa, path, delimiter, dialect.encoding)
    wanted = list(dict.fromkeys(name for name in there if name)) if columns is None else list(columns)
    check_columns(str(path), there, wanted)
    convert = pyarrow.csv.ConvertOptions(
        include_columns=wanted,
        null_values=[*_MISSING, *dialect.missing],
        strings_can_be_null=True,
        decimal_point=dialect.decimal,
        column_types={name: pa.dictionary(pa.int32(), pa.string()) for name in texts if name in wanted},
    )
    reading = pyarrow.csv.ReadOptions(encoding=dialect.encoding, block_size=2**24)
    for multiline in (False, True):
        parsing = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=multiline)
        try:
            return pyarrow.csv.read_csv(path, reading, parsing, convert)
        except pa.ArrowInvalid as error:
            failure = error
    said = _line(failure)
    if "UTF8" in said or "UTF-8" in said or "utf-8" in said:
        raise ValueError(f"{path} is not in {dialect.encoding}; give --encoding, as latin-1 or cp1252") from failure
    raise ValueError(f"{path} cannot be read ({said}); repair the row, or give --delimiter as the file has it")


def _header(pa: Any, path: Path, delimiter: str, encoding: str) -> list[str]:
    """Names of the columns of a CSV file.

    Raises:
        ValueError: If the first line is no header with this delimiter, or of another encoding.
    """
    if len(delimiter) != 1:
        raise ValueError(f"--delimiter {delimiter!r} is not one character")
    try:
        with pa.input_stream(str(path)) as stream:
            start = stream.read(_HEADER_BYTES)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read: {_line(error)}") from error
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not encoding.lower().replace("-", "").startswith("utf16"):
        raise ValueError(f"{path} is in UTF-16; add --encoding utf-16")
    try:
        text = start.decode(encoding, errors="ignore" if len(start) == _HEADER_BYTES else "strict").lstrip("\ufeff")
    except LookupError as error:
        raise ValueError(f"there is no encoding {encoding!r}; write utf-8, utf-16, latin-1 or cp1252") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in {encoding}; give --encoding, as latin-1 or cp1252") from error
    names = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
    if len(names) < 2:
        line = text.splitlines()[0] if text.splitlines() else ""
        other = max((d for d in _DELIMITERS if d != delimiter), key=line.count)
        if line.count(other):
            given = _DELIMITERS.get(delimiter, delimiter)
            raise ValueError(
                f"{path} has one column, {line[:40]!r}, if {given} stands between columns; add --delimiter "
                f"{_DELIMITERS[other]}"
            )
    return names


def _line(error: Exception) -> str:
    """What an error says, on one line and not endless."""
    return re.sub(r"\s+", " ", str(error)).strip()[:200]
