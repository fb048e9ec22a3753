"""A block of records as one Parquet file that holds its own digest.

In: records. Out: bytes of a file; whether they are whole; records again. The digest is SHA-256 of the file with zeros in the
digest's place, which is the value `sha256:...` of the key `digest` in the file's metadata.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from sppo_ray.records import Record, from_table, to_table

AT_ONCE = 1024  # records made while a table is walked through
MARK, BLANK = b"sha256:", b"0" * 64


class Records(Sequence[Record]):
    """The records of an Arrow table, each made when it is asked for: a list of them takes eight times the memory."""

    def __init__(self, table: pa.Table, kind: type[Record]) -> None:
        self._table = table
        self._kind: type[Record] = kind

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> "Records[Record]": ...

    def __getitem__(self, place: int | slice) -> "Record | Records[Record]":
        rows = range(len(self))[place]
        if isinstance(rows, int):
            return from_table(self._table.slice(rows, 1), self._kind)[0]
        assert rows.step == 1
        return Records(self._table.slice(rows.start, len(rows)), self._kind)

    def __iter__(self) -> Iterator[Record]:
        for start in range(0, len(self), AT_ONCE):
            yield from from_table(self._table.slice(start, AT_ONCE), self._kind)

    def column(self, name: str) -> list[Any]:
        """One field of every record."""
        return self._table[name].to_pylist()


def to_bytes(records: list[Record], kind: type[Record]) -> bytes:
    table, buffer = to_table(records, kind), pa.BufferOutputStream()
    # No dictionaries: hardly anything repeats.
    with pq.ParquetWriter(buffer, table.schema, compression="zstd", use_dictionary=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"digest": (MARK + BLANK).decode()})
    data = bytearray(buffer.getvalue())
    at = _digest_at(data)
    data[at : at + len(BLANK)] = _digest(data, at)
    return bytes(data)


def from_bytes(data: bytes, kind: type[Record]) -> Records[Record]:
    # Not `read_table`, which takes twice as long to make a dataset of it.
    return Records(pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False), kind)


def is_whole(data: bytes) -> bool:
    """Whether a block is as it was written."""
    at = _digest_at(data)
    return data[at : at + len(BLANK)] == _digest(data, at)


def _digest_at(data: bytes | bytearray) -> int:
    # The metadata lies at the end of a Parquet file; what models write may hold the mark, too.
    return data.rfind(MARK) + len(MARK)


def _digest(data: bytes | bytearray, at: int) -> bytes:
    view = memoryview(data)
    sha = hashlib.sha256(view[:at])
    sha.update(BLANK)
    sha.update(view[at + len(BLANK) :])
    return sha.hexdigest().encode()
