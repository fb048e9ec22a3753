"""One run a run folder: a lock on a file system, a lease that is renewed behind a URI.

In: the folder. Out: a context in which this process alone has it, or a `RunFolderError` that names who does.
"""

import getpass
import json
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sppo_ray.errors import RunFolderError, StorageError
from sppo_ray.run_folder import files
from sppo_ray.run_folder.storage import remote, reporting

log = logging.getLogger(__name__)

LOCK, LEASE = "run.lock", "run.lease"
LEASE_SECONDS = 30.0  # a lease that nobody renews for this long is taken over
RENEW_SECONDS = 5.0
SETTLE_SECONDS = 2.0  # until the last of several processes that take one lease over at once has written it


@contextmanager
def hold(root: Path, sweep: Callable[[], None]) -> Iterator[None]:
    """Have the run folder for this process alone; sweep it as soon as that is so, and at the end."""
    with _lease(root / LEASE) if remote(root) else _lock(root / LOCK):
        sweep()
        try:
            yield
        finally:
            sweep()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """The operating system's lock: it goes with its holder, however that dies. The file only names the holder."""
    with reporting(path):
        files.disk.make_folder(path.parent)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise _held(path.parent, _read(path)) from None
        files.disk.write(path, json.dumps(_myself()).encode())
    try:
        yield
    finally:
        files.discard(path)
        lock.release()


@contextmanager
def _lease(path: Path) -> Iterator[None]:
    """A file that its holder writes anew every few seconds: object stores have no locks."""
    lease = _myself() | {"id": uuid.uuid4().hex, "renewals": 0}
    if not _create(path, lease):
        _wait_for_death(path)
        _write(path, lease)
        time.sleep(SETTLE_SECONDS)
        if (winner := _read(path)).get("id") != lease["id"]:
            raise _held(path.parent, winner)
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(path, lease, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(StorageError):  # then it runs out by itself
            if _read(path).get("id") == lease["id"]:
                files.remove(path)


def _renew(path: Path, lease: dict[str, Any], done: threading.Event) -> None:
    while not done.wait(RENEW_SECONDS):
        try:
            if _read(path).get("id") != lease["id"]:
                # This process was silent for so long that another one went on with the run.
                log.error("%s was lost to another process: this one ends", path)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            lease["renewals"] += 1
            _write(path, lease)
        except StorageError as error:
            log.warning("the lease on the run folder could not be renewed: %s", error)


def _wait_for_death(path: Path) -> None:
    """Return when nobody has renewed a lease for its time; clocks of different machines are not compared."""
    seen, since = _read(path), time.monotonic()
    while seen and time.monotonic() - since < LEASE_SECONDS:
        time.sleep(RENEW_SECONDS / 5)
        now = _read(path)
        if now and now != seen:
            raise _held(path.parent, now)
        seen = now


def _create(path: Path, lease: dict[str, Any]) -> bool:
    """Write a lease unless there is one."""
    url = remote(path)
    assert url
    try:
        with reporting(path):
            url.fs.pipe_file(url.path, json.dumps(lease).encode(), mode="create")
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise RunFolderError(f"{path.parent} cannot be made: {error}; create the bucket first") from error
    return True


def _write(path: Path, lease: dict[str, Any]) -> None:
    files.write_bytes(path, json.dumps(lease).encode())


def _read(path: Path) -> dict[str, Any]:
    """Who holds the folder; empty where nobody does, or does not say so yet."""
    try:
        holder: dict[str, Any] = json.loads(files.read_bytes(path))
    except (FileNotFoundError, ValueError):
        return {}
    return holder


def _myself() -> dict[str, Any]:
    return {
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }


def _held(root: Path, holder: dict[str, Any]) -> RunFolderError:
    who = (
        "process {pid} of {user} on {host} since {since}".format(**holder) if holder else "a process that just started"
    )
    return RunFolderError(f"{root} is in use by {who}: wait for it or stop it, or choose another --run-dir")
