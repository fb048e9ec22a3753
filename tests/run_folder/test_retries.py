"""A fault of the storage that passes delays a run and does not end it."""

import errno
import itertools
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from sppo_ray.config import load_config
from sppo_ray.errors import StorageError
from sppo_ray.records import Prompt
from sppo_ray.run_folder import Ledger, files, location
from tests.run_folder.faulty_disk import FaultyDisk

ROWS = [Prompt("a", "text", [1, 2])]


@pytest.fixture(params=["path", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "run" if request.param == "path" else location(f"memory://{uuid.uuid4().hex}")


def write_block(ledger: Ledger) -> None:
    ledger.write(ROWS, Prompt, ledger.block(Prompt, 1, 0))
    assert ledger.read(Prompt, ledger.block(Prompt, 1, 0)) == ROWS


def replace_damaged_block(ledger: Ledger) -> None:
    path = ledger.block(Prompt, 1, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"?")
    write_block(ledger)


def claim(ledger: Ledger) -> None:
    assert ledger.claim(load_config(), {}) and not ledger.claim(load_config(), {})


@pytest.mark.parametrize("act", [write_block, replace_damaged_block, claim])
def test_each_operation_that_fails_once_is_done_again_and_that_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, act: Callable[[Ledger], None]
) -> None:
    monkeypatch.setattr(files, "RETRY_SECONDS", (0.0,))
    for at in itertools.count(1):
        disk = FaultyDisk(at, OSError(errno.EIO, "a loose cable"), lasting=False)
        caplog.clear()
        with monkeypatch.context() as context:
            context.setattr(files, "disk", disk)
            act(Ledger(root / str(at)))
        if not disk.failed:
            assert at > 1
            return
        assert caplog.text.count("trying again in 0 s") == 1
        assert not list(root.rglob("*.tmp-*"))


def test_a_fault_that_stays_is_raised_after_the_last_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("sppo_ray.run_folder.files.time.sleep", waits.append)
    monkeypatch.setattr(files, "disk", FaultyDisk(1, OSError(errno.ENOSPC, "full")))
    with pytest.raises(StorageError, match="no space is left; free some there"):
        files.write_bytes(tmp_path / "file", b"content")
    assert waits == [1, 4, 9, 16]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_what_somebody_has_to_permit_is_not_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(files, "RETRY_SECONDS", (1e9,))
    monkeypatch.setattr(files, "disk", FaultyDisk(1, OSError(code, "")))
    with pytest.raises(StorageError):
        files.write_bytes(root / "file", b"content")
