"""Storage that fails, and processes that die, within each single file operation: what is read is whole, what is done again works."""

import errno
import itertools
import os
import pickle
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sppo_ray.config import load_config
from sppo_ray.errors import StorageError
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates, Judged, Prompt, Snapshot
from sppo_ray.run_folder import Ledger, files, location
from sppo_ray.run_folder.publishing import publish
from sppo_ray.run_folder.snapshots import verify
from sppo_ray.run_folder.storage import REMEDIES, Disk
from tests.run_folder.faulty_disk import FaultyDisk, Killed
from tests.run_folders import candidates, judged

Act = Callable[..., object]

OLD, NEW = [Prompt("a", "old", [1, 2])], [Prompt("b", "new", [3])]
SAMPLED = [candidates(["a bb", "ccc"])]
JUDGED = [judged(SAMPLED[0], [[0.0, 1.0], [-1.0, 0.0]], [0.7, 0.3])]


@pytest.fixture(params=["path", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "run" if request.param == "path" else location(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def publishes(playground: Playground) -> Act:
    """Publishes a policy of two tensors in two shards."""

    def act(ledger: Ledger, iteration: int = 1, size: int = 4) -> Snapshot:
        weights = {"a": torch.zeros(size), "b": torch.ones(size)}
        shapes = dict.fromkeys(weights, (size,))
        folder = ledger.iteration(iteration) / "policy"
        base = str(playground.policy)
        return publish(folder, iteration, shapes, torch.bfloat16, weights.items(), base, "# card", shard_bytes=2 * size)

    return act


@pytest.fixture(autouse=True)
def no_waiting_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader sees an fsync: it only counts as an operation here."""
    monkeypatch.setattr(Disk, "sync", lambda *_: None)


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RETRY_SECONDS", ())


# What is done, and what it is done to


def nothing(_: Ledger) -> None:
    pass


def old_block(ledger: Ledger) -> None:
    ledger.write(OLD, Prompt, ledger.block(Prompt, 1, 0))


def damaged_block(ledger: Ledger) -> None:
    old_block(ledger)
    files.disk.write(ledger.block(Prompt, 1, 0), b"?")


def write_block(ledger: Ledger) -> None:
    ledger.write(NEW, Prompt, ledger.block(Prompt, 1, 0))


def judged_of_lost_candidates(ledger: Ledger) -> None:
    ledger.write(JUDGED, Judged, ledger.block(Judged, 1, 0))


def write_candidates(ledger: Ledger) -> None:
    ledger.write(SAMPLED, Candidates, ledger.block(Candidates, 1, 0))


def write_old_report(ledger: Ledger) -> None:
    ledger.write_report(1, {"iteration": 0})


def write_report(ledger: Ledger) -> None:
    ledger.write_report(1, {"iteration": 1})


def claim(ledger: Ledger) -> None:
    ledger.claim(load_config(), {})


def found(ledger: Ledger) -> list[list[str]]:
    """What a reader finds: the prompts of the block, the judged ones that have candidates, the report."""
    rows = []
    path = ledger.block(Prompt, 1, 0)
    if ledger.has(path):
        rows.append([row.text for row in ledger.read(Prompt, path)])
    if ledger.has(ledger.block(Candidates, 1, 0)):
        assert ledger.candidates(1, 0) == SAMPLED
        assert not ledger.has(ledger.block(Judged, 1, 0)), "judged from candidates that were lost"
    report = ledger.report(1)
    if report:
        rows.append([str(report["iteration"])])
    if (ledger.root / "config.yaml").exists():
        assert ledger.config() == load_config()
        rows.append(["config"])
    return rows


WRITES = [
    (nothing, write_block, [["new"]]),
    (damaged_block, write_block, [["new"]]),
    (judged_of_lost_candidates, write_candidates, []),
    (nothing, write_report, [["1"]]),
    (write_old_report, write_report, [["1"]]),
    (nothing, claim, [["config"]]),
]


def temporaries(ledger: Ledger) -> list[Path]:
    return list(ledger.root.rglob("*.tmp-*"))


def interrupted(root: Path, before: Act, act: Act, patch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Run folders in which an act was interrupted within its 1st, 2nd, ... file operation, and one in which it was not."""
    for at in itertools.count(1):
        ledger = Ledger(root / str(at))
        before(ledger)
        disk = FaultyDisk(at, Killed())
        with patch.context() as context, suppress(Killed):
            context.setattr(files, "disk", disk)
            act(ledger)
        yield ledger
        if not disk.failed:
            assert at > 1
            return


@pytest.mark.parametrize(("before", "act", "after"), WRITES)
def test_a_write_interrupted_anywhere_is_there_whole_or_not_and_is_done_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, before: Act, act: Act, after: list[list[str]]
) -> None:
    for ledger in interrupted(root, before, act, monkeypatch):
        assert found(ledger) in ([], after, [["0"]])
        act(ledger)
        assert found(ledger) == after
        ledger.sweep()
        assert not temporaries(ledger)


def test_content_reaches_the_device_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk(-1, Killed(), lasting=False)
    monkeypatch.setattr(files, "disk", disk)
    files.write_bytes(tmp_path / "file", b"content")
    assert disk.operations == ["make_folder", "write", "sync", "rename", "sync"]


def test_a_publication_interrupted_anywhere_is_there_whole_or_not_and_is_done_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, publishes: Act
) -> None:
    for ledger in interrupted(root, nothing, publishes, monkeypatch):
        assert whole(ledger.snapshot(1))
        publishes(ledger)
        assert ledger.verified_snapshot(1)
        ledger.sweep()
        assert not temporaries(ledger)


def test_a_damaged_snapshot_is_replaced_however_often_that_is_interrupted(
    root: Path, monkeypatch: pytest.MonkeyPatch, publishes: Act
) -> None:
    def damaged(ledger: Ledger) -> None:
        publishes(ledger)
        files.disk.write(ledger.iteration(1) / "policy" / "model-00002-of-00002.safetensors", b"?")

    def resume(ledger: Ledger) -> None:
        if ledger.verified_snapshot(1) is None:
            publishes(ledger)

    for ledger in interrupted(root, damaged, resume, monkeypatch):
        resume(ledger)
        assert whole(ledger.snapshot(1))
        assert ledger.snapshot(1)
        ledger.sweep()
        assert not temporaries(ledger)


def test_a_removal_interrupted_anywhere_leaves_whole_snapshots(
    root: Path, monkeypatch: pytest.MonkeyPatch, publishes: Act
) -> None:
    def both(ledger: Ledger) -> None:
        publishes(ledger)
        publishes(ledger, 2)

    def prune(ledger: Ledger) -> None:
        ledger.prune(1, Snapshot(2, ""))

    for ledger in interrupted(root, both, prune, monkeypatch):
        assert whole(ledger.snapshot(1)) and ledger.verified_snapshot(2)
        prune(ledger)
        assert ledger.snapshot(1) is None and ledger.verified_snapshot(2)


def whole(snapshot: Snapshot | None) -> bool:
    """There is none, or its files are those of its manifest; a damaged one raises."""
    if snapshot:
        verify(snapshot)
    return True


def faults(root: Path, before: Act, act: Act, code: int, lasting: bool, patch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Run folders in which the 1st, 2nd, ... file operation of an act failed, and was reported."""
    for at in itertools.count(1):
        ledger = Ledger(root / str(at))
        before(ledger)
        disk = FaultyDisk(at, OSError(code, os.strerror(code)), lasting)
        with patch.context() as context:
            context.setattr(files, "disk", disk)
            try:
                act(ledger)
            except StorageError as error:
                assert str(ledger.root) in str(error) and REMEDIES[code] in str(error)
                assert pickle.loads(pickle.dumps(error)).args == error.args
            else:
                assert not disk.failed and at > 1
                return
        yield ledger


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", REMEDIES)
def test_a_block_that_storage_refuses_is_named_with_the_remedy_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, lasting: bool
) -> None:
    for ledger in faults(tmp_path, damaged_block, write_block, code, lasting, monkeypatch):
        assert found(ledger) in ([], [["new"]])
        assert lasting or not temporaries(ledger)
        write_block(ledger)
        assert found(ledger) == [["new"]]


@pytest.mark.parametrize("lasting", [False, True])
def test_a_publication_that_storage_refuses_leaves_what_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publishes: Act, lasting: bool
) -> None:
    def second(ledger: Ledger) -> None:
        publishes(ledger, 2)

    for ledger in faults(tmp_path, publishes, second, errno.ENOSPC, lasting, monkeypatch):
        assert ledger.verified_snapshot(1) and whole(ledger.snapshot(2))
        assert lasting or not temporaries(ledger)
    second(ledger)
    assert ledger.verified_snapshot(2)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may mount one."""
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True)
    if mount.returncode:
        pytest.skip("this user may not mount a file system")
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_a_disk_that_is_full_or_read_only(small_disk: Path, publishes: Act) -> None:
    ledger = Ledger(small_disk / "run")
    write_block(ledger)
    with pytest.raises(StorageError, match=r"/run/iter-1/policy\.tmp-.*no space is left; free some there"):
        publishes(ledger, size=200_000)
    large = [Prompt(uuid.uuid4().hex, "", []) for _ in range(20_000)]
    with pytest.raises(StorageError, match=r"00001\.parquet: no space is left; free some there"):
        ledger.write(large, Prompt, ledger.block(Prompt, 1, 1))
    assert found(ledger) == [["new"]] and not temporaries(ledger)

    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for act in (write_report, publishes, write_candidates, claim, lambda ledger: ledger.hold().__enter__()):
        with pytest.raises(StorageError, match="the file system is read-only; mount it writable"):
            act(ledger)

    subprocess.run(["mount", "-o", "remount,rw,size=16m", small_disk], check=True)
    publishes(ledger, size=200_000)
    ledger.write(large, Prompt, ledger.block(Prompt, 1, 1))
    assert ledger.verified_snapshot(1) and ledger.read(Prompt, ledger.block(Prompt, 1, 1)) == large
