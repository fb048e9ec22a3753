"""Tables of prompts in single files: JSON, JSON lines, CSV, TSV, Parquet, Arrow, each also compressed by gzip.

In: a path. Out: a `Table` whose rows carry the place by which a person finds them. What is not read whole is refused.
"""

import codecs
import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sppo_ray.errors import PromptError
from sppo_ray.prompts.messages import is_turn
from sppo_ray.prompts.rows import COLUMNS, Row

T = TypeVar("T")
REMEDY = 'write one {"prompt": ...} per line'
GIT_LFS = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Table:
    """where: how messages name it.  rows: each with its place, as "line 3" of a text file or "row 3"; both count from 1.

    A row has the columns that were asked for, None where it lacks one.
    """

    where: str
    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[tuple[str, Row]]]


def plain(path: Path) -> Path:
    """The name of a file without the ending of its compression."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def is_readable(path: Path) -> bool:
    """Whether a file is of a kind that can be read, by its name."""
    return plain(path).suffix.lower() in READERS


def read_file(path: Path) -> Table:
    if not is_readable(path):
        raise PromptError(f"{path} is none of the kinds that can be read: give it as {', '.join(READERS)}")
    data = attempt(f"{path} cannot be read", "correct prompts.source or its permissions", path.read_bytes)
    if plain(path) != path:
        compressed = data
        data = attempt(f"{path} cannot be read", "compress it again", lambda: gzip.decompress(compressed))
    if not data:
        raise PromptError(f"{path} is empty: correct prompts.source")
    if data.startswith(GIT_LFS):
        raise PromptError(f"{path} is a Git LFS pointer, not the data: run `git lfs pull` in its folder")
    table = READERS[plain(path).suffix.lower()](path, data)
    twice = [column for column, n in Counter(table.columns).items() if n > 1 and column]
    if twice:
        raise PromptError(f"{path} has more than one column {twice[0]!r}: rename all but one")
    return table


def attempt(problem: str, remedy: str, call: Callable[[], T]) -> T:
    """What a library makes of a user's data, or a `PromptError` of one line."""
    try:
        return call()
    except Exception as error:  # `datasets` and pyarrow raise whatever the libraries below them do: no common root
        words = " ".join(str(part) for part in (error, error.__cause__) if part is not None)
        short = " ".join(words.split())[:400] or type(error).__name__
        raise PromptError(f"{problem} ({short}): {remedy}") from error


def join_tables(where: str, tables: dict[str, Table]) -> Table:
    """Several files, by name, as one table."""
    columns = list(dict.fromkeys(column for table in tables.values() for column in table.columns))

    def rows(wanted: Sequence[str]) -> Iterator[tuple[str, Row]]:
        for name, table in tables.items():
            for place, row in table.rows([column for column in wanted if column in table.columns]):
                yield f"{name}, {place}", {column: row.get(column) for column in wanted}

    return Table(where, columns, rows)


def _parquet(path: Path, data: bytes) -> Table:
    file = attempt(
        f"{path}: its Parquet table cannot be read", "write it again", lambda: pq.ParquetFile(pa.BufferReader(data))
    )
    return _arrow_rows(path, file.schema_arrow.names, lambda columns: file.read(columns=columns))


def _arrow(path: Path, data: bytes) -> Table:
    def read() -> pa.Table:
        try:
            return pa.ipc.open_stream(pa.BufferReader(data)).read_all()
        except pa.ArrowInvalid:
            return pa.ipc.open_file(pa.BufferReader(data)).read_all()

    table = attempt(f"{path}: its Arrow table cannot be read", "write it again", read)
    return _arrow_rows(path, table.column_names, table.select)


def _arrow_rows(path: Path, names: list[str], read: Callable[[list[str]], pa.Table]) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
        found = attempt(f"{path}: its rows cannot be read", "write it again", lambda: read(list(columns)).to_pylist())
        return ((f"row {number}", row) for number, row in enumerate(found, 1))

    return Table(str(path), names, rows)


def _json(path: Path, data: bytes) -> Table:
    """One object per line, or one list of objects, which may be inside of one object."""
    text = _text(path, data)
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        if text.lstrip().startswith("[") and isinstance(error, json.JSONDecodeError):
            raise PromptError(
                f"{path}, line {error.lineno} is not JSON ({error.msg} at character {error.colno}): correct it there"
            ) from None
        return _json_lines(path, text)
    one_line = plain(path).suffix.lower() != ".json" and "\n" not in text.strip()
    rows = None if one_line and isinstance(value, dict) else _rows_of(path, value)
    if rows is None:
        return _objects(path, [("line 1", value)])
    return _objects(path, [(f"row {number}", row) for number, row in enumerate(rows, 1)])


def _json_lines(path: Path, text: str) -> Table:
    values = []
    # Only "\n" ends a line: JSON text may hold U+2028 and the like, at which str.splitlines would break it.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append((f"line {number}", json.loads(line)))
        except (json.JSONDecodeError, RecursionError) as error:
            detail = (
                f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
            )
            raise PromptError(f"{path}, line {number} is not JSON ({detail}): {REMEDY}") from None
    return _objects(path, values)


def _rows_of(path: Path, value: Any) -> list[Any] | None:
    """The rows of a file that is one JSON value; None if it is a row itself."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else None
    tables = {
        name: rows
        for name, rows in value.items()
        if isinstance(rows, list) and rows and all(isinstance(row, dict) and not is_turn(row) for row in rows)
    }
    if len(tables) == 1 and not COLUMNS.keys() & value.keys():
        return next(iter(tables.values()))
    turns = any(isinstance(column, list) and any(map(is_turn, column)) for column in value.values())
    if value and not turns and all(isinstance(column, dict | list) for column in value.values()):
        what = f"several tables ({', '.join(tables)})" if len(tables) > 1 else "columns"
        raise PromptError(
            f"{path} holds {what}, not a list of rows: {REMEDY}, as pandas' to_json(orient='records', lines=True)"
        )
    return None


def _objects(path: Path, values: list[tuple[str, Any]]) -> Table:
    for place, value in values:
        if not isinstance(value, dict):
            raise PromptError(f"{path}, {place} is a {type(value).__name__}, not an object: {REMEDY}")
    columns = dict.fromkeys(column for _, value in values for column in value)
    return Table(str(path), list(columns), partial(_select, values))


def _csv(path: Path, data: bytes) -> Table:
    csv.field_size_limit(2**31 - 1)  # the default refuses a text above 128 KiB
    text = _text(path, data)
    first = text.lstrip().partition("\n")[0]
    # Spreadsheets write semicolons where the comma is the decimal point.
    delimiter = next((mark for mark in ("\t", ",", ";") if mark in first), ",")
    reader = csv.reader(
        StringIO(text, newline=""), strict=True, delimiter=delimiter, skipinitialspace=f"{delimiter} " in first
    )
    rows: list[tuple[str, Row]] = []
    number = 1
    try:
        header = next(reader, [])
        number = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise PromptError(
                    f"{path}, line {number} has {len(fields)} fields where the header has {len(header)}: "
                    f'put a text with {"tabs" if delimiter == "	" else delimiter} in "quotes"'
                )
            if fields:
                rows.append((f"line {number}", dict(zip(header, fields, strict=True))))
            number = reader.line_num + 1
    except csv.Error as error:
        raise PromptError(f"{path}, line {number} is not CSV ({error}): correct its quotes") from None
    return Table(str(path), header, partial(_select, rows))


def _select(rows: list[tuple[str, Row]], columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
    return ((place, {column: row.get(column) for column in columns}) for place, row in rows)


def _text(path: Path, data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return attempt(f"{path} is not UTF-16", "save the file as UTF-8", lambda: data.decode("utf-16"))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{path}, line {line} is not UTF-8 (byte {error.start} of the file is 0x{data[error.start]:02x}): "
            "save the file as UTF-8"
        ) from None


READERS: dict[str, Callable[[Path, bytes], Table]] = {
    ".jsonl": _json,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".ndjson": _json,
    ".tsv": _csv,
    ".arrow": _arrow,
}
