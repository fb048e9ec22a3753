"""Connecting to Ray: an address that cannot be used is named at once, with the remedy."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.cluster.connection import check_address, shorten_temporary_folder
from jobs import sppo
from sppo_ray.errors import ClusterError
from tests.conftest import free_port


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:8265", "is the address of a dashboard: submit the run instead, `ray job submit"),
        ("ray://127.0.0.1:10001", "a run has to start on a node of its cluster; submit the run instead"),
        ("127.0.0.1", "write it as HEAD:6379, or unset it"),
        ("127.0.0.1:port", "write it as HEAD:6379, or unset it"),
        ("127.0.0.1:1", "no Ray cluster answers there .*unset RAY_ADDRESS to run on this machine"),
        ("head.invalid:6379", "no Ray cluster answers there"),
    ],
)
def test_an_address_that_cannot_be_used(address, words, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(sppo, "prepare", lambda *_: pytest.fail("the job went on"))
    started = time.monotonic()
    with pytest.raises(ClusterError, match=words):
        check_address()
    assert sppo.main(["--run-dir", str(tmp_path / "run")]) == 2
    assert time.monotonic() - started < 10
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("address", [None, "", "auto", "local"])
def test_without_an_address_ray_looks_on_this_machine(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    check_address()


def test_an_address_where_something_listens(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        check_address()


@pytest.fixture
def long_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / ("x" * 70)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield folder


def test_a_long_folder_for_temporary_files_is_not_used(long_folder: Path) -> None:
    assert tempfile.gettempdir() == str(long_folder)
    shorten_temporary_folder()
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == "/tmp"


def test_ray_starts_on_this_machine_and_says_so_where_the_last_cluster_was_killed(long_folder: Path) -> None:
    code = "from actors.cluster.connection import connect; print(connect())"
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        environment = os.environ | {"RAY_TMPDIR": short}
        environment.pop("RAY_ADDRESS", None)
        (Path(short) / "ray").mkdir()
        (Path(short) / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}")  # where nobody listens
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
        )
    assert done.stdout.splitlines()[-1].startswith("started Ray on this machine for this run: "), done.stderr
    assert not list(long_folder.glob("ray*"))
