"""How the run folder's files are written: to a temporary name, fsynced, renamed, and vouched for by a SHA-256 digest.

In: a path and bytes, or a finished temporary folder. Out: a file or folder that a reader sees whole or not at all.
"""

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def temporary_name(path: Path) -> Path:
    """A sibling of path that no reader takes for it: `<name>.tmp-<id>`."""
    return path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex[:8]}")


def publish_folder(temporary: Path, path: Path) -> None:
    """Fsync a finished folder's files and rename it to its real name."""
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(temporary)
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            sha.update(chunk)
    return sha.hexdigest()
