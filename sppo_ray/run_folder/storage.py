"""The file systems of runs, local or behind an fsspec URI: the few operations on them, and what is said when they fail.

In: a path, or a `UPath` of a URI in a Path's place. Out: what was read; a `StorageError` that names the path and the remedy.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from fsspec.asyn import AsyncFileSystem
from upath import UPath

from sppo_ray.errors import RunFolderError, SppoError, StorageError

AGAIN = "then submit the same job again: what is stored is kept"
REMEDIES = {
    errno.ENOSPC: f"no space is left; free some there, {AGAIN}. storage.keep_snapshots limits the policies that are kept",
    errno.EDQUOT: f"the quota is used up; free space there or raise it, {AGAIN}",
    errno.EROFS: f"the file system is read-only; mount it writable, {AGAIN}",
    errno.EACCES: f"permission is denied; let this user read and write there, {AGAIN}",
    errno.EPERM: f"permission is denied; let this user read and write there, {AGAIN}",
    errno.EIO: f"the device fails; look at the system's log and mend or replace it, {AGAIN}",
}

LASTING = (errno.EROFS, errno.EACCES, errno.EPERM)


def location(text: str) -> Path:
    """The folder that a user names: a path, or the URI of any file system that fsspec knows.

    Raises `RunFolderError` for a URI whose file system is not known or not installed.
    """
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return Path(text).expanduser().resolve()
    try:
        url = UPath(text)
        # Listings that a process keeps hide what others write: object stores are asked anew each time.
        fresh: dict[str, Any] = {"use_listings_cache": False} if isinstance(url.fs, AsyncFileSystem) else {}
        return cast(Path, UPath(text, **fresh))
    except (ValueError, ImportError) as error:
        raise RunFolderError(f"{text} cannot be opened: {error}") from error


def remote(path: Path) -> UPath | None:
    """The URI that stands in a path's place, if one does. One write to it appears whole, and nothing is renamed there."""
    return path if isinstance(path, UPath) else None


class Disk:
    """Every operation that touches the files of a run: the one seam at which tests put faults."""

    def read(self, path: Path) -> bytes:
        if url := remote(path):
            return cast(bytes, url.fs.cat_file(url.path))
        return path.read_bytes()

    def make_folder(self, path: Path) -> None:
        if not remote(path):
            path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        if url := remote(path):
            url.fs.pipe_file(url.path, data)
        else:
            path.write_bytes(data)

    def fill(self, path: Path, save: Callable[[Path], object]) -> None:
        """Have a library write a local file, or files into a folder."""
        save(path)

    def sync(self, path: Path) -> None:
        """Have a local file or folder reach its device."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder, if it is there."""
        if url := remote(path):
            if url.exists():
                url.fs.rm(url.path, recursive=True)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def upload(self, file: Path, path: Path) -> None:
        url = remote(path)
        assert url
        url.fs.put_file(str(file), url.path)

    def download(self, path: Path, file: Path) -> None:
        url = remote(path)
        assert url
        url.fs.get_file(url.path, str(file))


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turn what a file system refuses into a `StorageError` with the remedy. What is not there stays a FileNotFoundError."""
    try:
        yield
    except (SppoError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in REMEDIES:
            raise StorageError(f"{path}: {REMEDIES[code]}") from error
        if remote(path):  # each file system has errors of its own
            raise StorageError(
                f"{path}: {type(error).__name__}: {error}; see to the address, the credentials and the network, {AGAIN}"
            ) from error
        raise


def lasts(error: StorageError) -> bool:
    """Whether trying again is of no use: somebody has to give a permission."""
    cause = error.__cause__
    return isinstance(cause, PermissionError) or (isinstance(cause, OSError) and cause.errno in LASTING)
