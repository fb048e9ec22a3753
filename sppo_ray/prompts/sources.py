"""Tables of prompts wherever they lie: a file, a folder of files, a saved data set, a data set of the hub.

In: a source's name and the split wanted. Out: a `Table` whose rows carry the number by which a person finds them.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from sppo_ray.errors import PromptError

datasets.disable_progress_bars()

Row = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """where, unit: how messages name it and its rows.  rows: number and row of given columns, None if missing."""

    where: str
    unit: str  # "line" of a text file, else "row"; both count from 1
    columns: list[str]
    rows: Callable[[Sequence[str]], Iterator[tuple[int, Row]]]


def open_table(source: str, split: str | None) -> Table:
    """The table of a source. A split names a part of a data set or, in a plain folder, a file without its extension."""
    path = Path(source).expanduser()
    if path.is_file():
        if split is not None:
            raise PromptError(f"{source} is one file and has no split {split!r}: leave prompts.split out")
        return _file(path)
    if path.is_dir():
        return _folder(path, split)
    if path.suffix in READERS or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise PromptError(f"{source}: no such file or folder: correct prompts.source")
    return _hub(source, split)


def _file(path: Path) -> Table:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise PromptError(f"{path} is none of the kinds that can be read: give it as {', '.join(READERS)}")
    if not path.stat().st_size:
        raise PromptError(f"{path} is empty: correct prompts.source")
    return reader(path)


def _folder(path: Path, split: str | None) -> Table:
    if (path / "dataset_dict.json").is_file():
        splits = _loaded(path, "split names", lambda: json.loads((path / "dataset_dict.json").read_bytes())["splits"])
        return _dataset(path / _choose(str(path), splits, split))
    if (path / "dataset_info.json").is_file():
        if split is not None:
            raise PromptError(f"{path} holds one data set and has no split {split!r}: leave prompts.split out")
        return _dataset(path)
    files = {file.stem: file for file in sorted(path.iterdir()) if file.suffix in READERS}
    if not files:
        raise PromptError(
            f"{path} holds neither a data set saved by `save_to_disk` nor files ending in {', '.join(READERS)}: "
            "correct prompts.source"
        )
    return _file(files[_choose(str(path), list(files), split)])


def _dataset(path: Path) -> Table:
    return _arrow(str(path), _loaded(path, "data set", lambda: datasets.load_from_disk(path)))


def _hub(name: str, split: str | None) -> Table:
    """The download shows its progress; a network that cannot be reached is tried for half a minute."""
    try:
        chosen = _choose(name, datasets.get_dataset_split_names(name), split)
        return _arrow(f"{name}, split {chosen}", datasets.load_dataset(name, split=chosen))
    except (OSError, ValueError) as error:
        raise PromptError(
            f"{name} is neither a file or folder here nor a data set that the hub gives: {error}\n"
            "Correct prompts.source, or save the data set with `save_to_disk` and name its folder"
        ) from error


def _choose(where: str, splits: list[str], split: str | None) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split not in splits:
        wanted = "needs prompts.split" if split is None else f"has no split {split!r}"
        raise PromptError(
            f"{where} {wanted}: it has {', '.join(sorted(splits))}; set prompts.split to one of them, "
            "or lower iterations where {iteration} counts beyond them"
        )
    return split


def _loaded(path: Path, what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise PromptError(f"{path}: its {what} cannot be read ({error}): write it again") from error


def _arrow(where: str, dataset: datasets.Dataset) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        return enumerate(dataset.select_columns(list(columns)), 1)

    return Table(where, "row", dataset.column_names, rows)


def _parquet(path: Path) -> Table:
    file = _loaded(path, "Parquet table", lambda: pq.ParquetFile(path))

    def rows(columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        return enumerate(_loaded(path, "rows", lambda: file.read(columns=list(columns)).to_pylist()), 1)

    return Table(str(path), "row", file.schema_arrow.names, rows)


def _jsonl(path: Path) -> Table:
    objects: list[tuple[int, Row]] = []
    columns: dict[str, None] = {}
    # Only b"\n" ends a line: JSON text may hold U+2028 and the like, at which str.splitlines would break it.
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise PromptError(
                f"{path}, line {number} is not JSON ({error.msg} at character {error.pos + 1}): "
                'write one {"prompt": ...} a line'
            ) from None
        if not isinstance(value, dict):
            raise PromptError(
                f'{path}, line {number} is a {type(value).__name__}, not an object: write one {{"prompt": ...}} a line'
            )
        objects.append((number, value))
        columns.update(dict.fromkeys(value))
    return Table(str(path), "line", list(columns), partial(_select, objects))


def _json(path: Path) -> Table:
    """One list of objects, as AlpacaEval has it; else one object a line."""
    text = _text(path)
    if not text.lstrip().startswith("["):
        return _jsonl(path)
    try:
        objects = list(enumerate(json.loads(text), 1))
    except json.JSONDecodeError as error:
        raise PromptError(
            f"{path}, line {error.lineno} is not JSON ({error.msg} at character {error.colno}): correct it there"
        ) from None
    columns: dict[str, None] = {}
    for number, value in objects:
        if not isinstance(value, dict):
            raise PromptError(f"{path}, row {number} is a {type(value).__name__}, not an object: correct it there")
        columns.update(dict.fromkeys(value))
    return Table(str(path), "row", list(columns), partial(_select, objects))


def _csv(path: Path) -> Table:
    csv.field_size_limit(2**31 - 1)  # the default refuses a text above 128 KiB
    reader = csv.reader(StringIO(_text(path), newline=""), strict=True)
    objects: list[tuple[int, Row]] = []
    number = 1
    try:
        header = next(reader, [])
        number = reader.line_num + 1
        for fields in reader:
            if fields and len(fields) != len(header):
                raise PromptError(
                    f"{path}, line {number} has {len(fields)} fields where the header has {len(header)}: "
                    'put a text with commas in "quotes"'
                )
            if fields:
                objects.append((number, dict(zip(header, fields, strict=True))))
            number = reader.line_num + 1
    except csv.Error as error:
        raise PromptError(f"{path}, line {number} is not CSV ({error}): correct its quotes") from None
    return Table(str(path), "line", header, partial(_select, objects))


def _select(objects: list[tuple[int, Row]], columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    return ((number, {column: row.get(column) for column in columns}) for number, row in objects)


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PromptError(
            f"{path}, line {line} is not UTF-8 (byte {error.start} of the file is 0x{data[error.start]:02x}): "
            "save the file as UTF-8"
        ) from None


READERS: dict[str, Callable[[Path], Table]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".parquet": _parquet}
