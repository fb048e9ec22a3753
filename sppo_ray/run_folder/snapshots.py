"""Published policies, as readers see them: folders that a manifest vouches for.

In: a folder or its URI. Out: the `Snapshot` in it, verified on request, and a folder of this node that engines can load.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from sppo_ray.errors import DamagedFile
from sppo_ray.records import Snapshot
from sppo_ray.run_folder import files
from sppo_ray.run_folder.storage import location, reporting

MANIFEST = "manifest.json"
KEPT = 4  # snapshots of a run in a node's cache


def read_snapshot(folder: Path, iteration: int) -> Snapshot | None:
    """The snapshot in a folder, or None where none was published. Only its manifest is read."""
    try:
        return Snapshot(iteration, str(folder), files.digest_bytes(files.read_bytes(folder / MANIFEST)))
    except FileNotFoundError:
        return None


def verify(snapshot: Snapshot) -> None:
    """Read a published snapshot. Raise `DamagedFile` unless each file has the digest that its manifest gives."""
    folder = location(snapshot.uri)
    for name, digest in read_manifest(folder, snapshot)["files"].items():
        try:
            found = files.digest_file(folder / name)
        except FileNotFoundError:
            found = ""
        if found != digest:
            raise DamagedFile(f"{folder / name} does not match its digest in {MANIFEST}")


def withdraw(folder: Path) -> None:
    """Remove a snapshot, its manifest first, so that no reader takes what is left for one."""
    files.remove(folder / MANIFEST)
    files.remove(folder)


def local(snapshot: Snapshot) -> Snapshot:
    """The same snapshot where engines and trainers can load it: itself, or if its URI is remote a verified copy on this node.

    The copy is made once a node, under a lock, in `$SPPO_RAY_CACHE` or the user's cache; the last few of a run stay.
    """
    if "://" not in snapshot.uri:
        return snapshot
    source = location(snapshot.uri)
    home = _cache() / "snapshots" / files.digest_bytes(str(source.parent.parent).encode())[:16]
    folder = home / f"{snapshot.name}-{snapshot.digest[:16]}"
    with reporting(home):
        home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / "lock"):
            if not folder.exists():
                _download(source, folder, snapshot)
            os.utime(folder)
            copies = sorted(home.glob("iter-*"), key=lambda copy: copy.stat().st_mtime, reverse=True)
            for old in copies[KEPT:]:
                files.remove(old)
    return replace(snapshot, uri=str(folder))


def copy_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Copy the files that a snapshot's manifest names into a folder of this machine. Raises `DamagedFile` if one is not whole."""
    here = local(snapshot)
    verify(here)
    for name in read_manifest(Path(here.uri), here)["files"]:
        shutil.copyfile(Path(here.uri) / name, folder / name)


def _download(source: Path, folder: Path, snapshot: Snapshot) -> None:
    manifest = read_manifest(source, snapshot)["files"]
    with scratch() as temporary:
        for name in (*manifest, MANIFEST):
            files.persistently(source / name, partial(files.disk.download, source / name, temporary / name))
        verify(replace(snapshot, uri=str(temporary)))
        temporary.rename(folder)


def _cache() -> Path:
    return Path(os.environ.get("SPPO_RAY_CACHE") or platformdirs.user_cache_dir("sppo-ray"))


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on this node for what is on its way from or to a remote run folder; those of dead processes are removed."""
    home = _cache() / "scratch"
    with reporting(home):
        home.mkdir(parents=True, exist_ok=True)
        for left in [path for path in home.iterdir() if path.is_dir()]:
            with suppress(Timeout), _lock_of(left).acquire(timeout=0):
                _drop(left)
        folder = home / uuid.uuid4().hex
        with _lock_of(folder):
            folder.mkdir()
            try:
                yield folder
            finally:
                _drop(folder)


def _lock_of(folder: Path) -> FileLock:
    """Held before the folder is made; the operating system gives it up when its process dies."""
    return FileLock(folder.with_suffix(".lock"))


def _drop(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)


def read_manifest(folder: Path, snapshot: Snapshot) -> dict[str, Any]:
    """What was published in a folder. Raise `DamagedFile` if the manifest is not the snapshot's."""
    data = files.read_bytes(folder / MANIFEST)
    if files.digest_bytes(data) != snapshot.digest:
        raise DamagedFile(f"{folder / MANIFEST} is not the manifest that was published")
    manifest: dict[str, Any] = json.loads(data)
    return manifest
