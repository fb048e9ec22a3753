"""Joining Ray: the cluster that RAY_ADDRESS names, else the one that runs on this machine, else a new one.

In: the environment. Out: a line that says what was joined or started; `ClusterError` with the remedy.
"""

import logging
import os
import socket
import tempfile
from urllib.parse import urlsplit

import ray

from sppo_ray.errors import ClusterError

CONNECT_SECONDS = 3.0  # Ray itself would wait 30 s to 2 minutes for a cluster that is not there
LONGEST_FOLDER = 20  # characters: a Unix socket's path has at most 107, and Ray's own part takes up to 85 of them
SUBMIT = "submit the run instead, `ray job submit --address http://HEAD:8265 -- sppo-ray run ...`"


def connect() -> str:
    """Connect this process to Ray, unless it is already.

    What the actors log stays in Ray's log folder and on its dashboard; what a person needs reaches the run's log by its
    status.
    """
    if not ray.is_initialized():
        check_address()
        # Ray turns token authentication on by itself, and says so each time.
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        # For a cluster started here: a run has more light processes than a small machine has cores, which Ray warns of.
        os.environ.setdefault("RAY_worker_maximum_startup_concurrency", "8")
        shorten_temporary_folder()
        try:
            ray.init("local" if _last_is_gone() else None, log_to_driver=False, logging_level=logging.WARNING)
        except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
            raise ClusterError(f"Ray could not be joined or started: {' '.join(str(error).split())}") from error
    node = ray._private.worker._global_node
    where = (
        "started Ray on this machine for this run"
        if node.is_head()
        else f"joined the Ray cluster at {node.gcs_address}"
    )
    resources = ray.cluster_resources()
    return f"{where}: {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"


def _last_is_gone() -> bool:
    """Whether Ray would join the cluster last started on this machine, which was killed: it keeps the address, and waits for it."""
    last = None if os.environ.get("RAY_ADDRESS") else ray._private.services.find_bootstrap_address(None)
    if last is None:
        return False
    host, _, port = last.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError:
        return True
    return False


def shorten_temporary_folder() -> None:
    """Use /tmp where TMPDIR is too long for the sockets that Ray, its dashboard and vLLM's workers make there."""
    if len(tempfile.gettempdir()) > LONGEST_FOLDER:
        os.environ["TMPDIR"] = "/tmp"
        tempfile.tempdir = None  # which keeps what TMPDIR was


def check_address() -> None:
    """Raises `ClusterError` for a RAY_ADDRESS that a run cannot use."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "auto", "local"):
        return
    scheme, _, _ = address.rpartition("://")
    if scheme in ("http", "https"):
        raise ClusterError(
            f"RAY_ADDRESS={address} is the address of a dashboard: {SUBMIT}; on a node of the cluster unset RAY_ADDRESS "
            "or set it to HEAD:6379"
        )
    if scheme:
        raise ClusterError(f"RAY_ADDRESS={address}: a run has to start on a node of its cluster; {SUBMIT}")
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise ClusterError(f"RAY_ADDRESS={address}: write it as HEAD:6379, or unset it")
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); start it, or unset RAY_ADDRESS to run on "
            "this machine"
        ) from None
