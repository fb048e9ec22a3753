"""How the run folder's files are written: each appears whole or not at all, and is vouched for by a SHA-256 digest.

In: a path or URI and bytes, or a finished folder. Out: the file or folder under its name; a `StorageError` where that fails.
"""

import hashlib
import json
import logging
import math
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sppo_ray.errors import StorageError
from sppo_ray.run_folder.storage import Disk, lasts, remote, reporting

log = logging.getLogger(__name__)

T = TypeVar("T")

CHUNK = 1 << 20
RETRY_SECONDS = (1.0, 4.0, 9.0, 16.0)  # between the tries of an operation that storage refuses

disk = Disk()


def persistently(path: Path, act: Callable[[], T]) -> T:
    """What an act on the storage at path returns. One that fails for a reason that may pass is tried again, for half a minute.

    Raises `StorageError` with the remedy. The act must be one that can be repeated.
    """
    for wait in RETRY_SECONDS:
        try:
            with reporting(path):
                return act()
        except StorageError as error:
            if lasts(error):
                raise
            log.warning("%s; trying again in %g s", error, wait)
            time.sleep(wait)
    with reporting(path):
        return act()


def read_bytes(path: Path) -> bytes:
    """The content of a file. Raises `StorageError` if it cannot be read, FileNotFoundError if it is not there."""
    return persistently(path, lambda: disk.read(path))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically; makes its folder."""
    persistently(path, lambda: _write(path, data))


def _write(path: Path, data: bytes) -> None:
    if remote(path):
        disk.write(path, data)
        return
    disk.make_folder(path.parent)
    temporary = temporary_name(path)
    try:
        disk.write(temporary, data)
        disk.sync(temporary)
        disk.rename(temporary, path)
    except OSError:
        discard(temporary)
        raise
    disk.sync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON; null in place of a number that is not finite, which JSON does not have."""
    write_bytes(path, (json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n").encode())


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(_finite(row)) + "\n" for row in rows).encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def temporary_name(path: Path) -> Path:
    """A sibling of path that no reader takes for it: `<name>.tmp-<id>`."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")


def publish_folder(folder: Path, path: Path, last: str) -> None:
    """Give a finished local folder its name, or upload it: the file named `last`, which vouches for the others, at the end.

    folder: for a local path, a sibling of it.
    """
    if remote(path):
        for file in sorted(folder.iterdir(), key=lambda file: file.name == last):
            persistently(path / file.name, partial(disk.upload, file, path / file.name))
        return
    with reporting(path):
        for file in folder.iterdir():
            disk.sync(file)
        disk.sync(folder)
        disk.rename(folder, path)
        disk.sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    persistently(path, lambda: disk.remove(path))


def discard(path: Path) -> None:
    """Remove what was half-written, where the failing storage lets that happen."""
    with suppress(OSError):
        disk.remove(path)


def set_aside(path: Path) -> None:
    """Rename a damaged file to `<name>.damaged`."""
    persistently(path, lambda: disk.rename(path, path.with_name(path.name + ".damaged")))


def digest_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""

    def digest() -> str:
        sha = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                sha.update(chunk)
        return sha.hexdigest()

    return persistently(path, digest)
