"""A run folder belongs to one run: the second is told who has it; a dead holder blocks nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import sppo
from sppo_ray.errors import RunFolderError
from sppo_ray.run_folder import Ledger, location
from sppo_ray.run_folder import lock as holding

HOLDER = """
import sys, time
from sppo_ray.run_folder.ledger import Ledger
from sppo_ray.run_folder.storage import location
with Ledger(location(sys.argv[1])).hold():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_told_who_has_the_folder(
    holder: subprocess.Popen[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sppo.main(["--run-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path} is in use by process {holder.pid} of " in said and "since 20" in said
    assert not (tmp_path / "config.yaml").exists()


def test_a_killed_holder_blocks_nobody_and_what_it_left_half_written_goes(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    holder.kill()
    holder.wait()
    (tmp_path / "iter-1" / "policy.tmp-0123abcd").mkdir(parents=True)
    (tmp_path / "iter-1" / "policy.tmp-0123abcd" / "model.safetensors").touch()
    (tmp_path / "iter-1" / "00000.parquet.tmp-0123abcd").touch()
    with Ledger(tmp_path).hold():
        assert json.loads((tmp_path / "run.lock").read_bytes())["pid"] == os.getpid()
        assert {path.name for path in tmp_path.rglob("*")} == {"run.lock", "iter-1"}
        (tmp_path / "report.json.tmp-0123abcd").touch()
    assert {path.name for path in tmp_path.rglob("*")} == {"iter-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A run folder behind a URI, with leases of two seconds."""
    monkeypatch.setattr(holding, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(holding, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(holding, "SETTLE_SECONDS", 1.0)
    return Ledger(location(f"memory://{uuid.uuid4().hex}"))


def test_a_lease_that_is_renewed_keeps_the_second_out(bucket: Ledger) -> None:
    with bucket.hold(), pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} of "), bucket.hold():
        pass
    assert not list(bucket.root.glob("*"))
    with bucket.hold():
        pass


def test_one_of_two_takes_over_the_lease_of_a_dead_holder(bucket: Ledger) -> None:
    dead = {"id": "dead", "renewals": 7, "user": "u", "host": "h", "pid": 1, "since": "then"}
    (bucket.root / "run.lease").write_text(json.dumps(dead))
    outcomes: list[str] = []
    both = threading.Barrier(2)

    def take() -> None:
        both.wait()
        try:
            with bucket.hold():
                outcomes.append("held")
                both.wait()
        except RunFolderError:
            outcomes.append("refused")
            both.wait()

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused"]


def test_a_holder_whose_lease_was_taken_over_is_stopped(bucket: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    monkeypatch.setattr(os, "kill", lambda pid, number: stopped.set() if number == signal.SIGTERM else None)
    with bucket.hold():
        (bucket.root / "run.lease").write_text(json.dumps({"id": "another"}))
        assert stopped.wait(10)
    assert json.loads((bucket.root / "run.lease").read_bytes()) == {"id": "another"}
