"""A run folder in an S3 bucket: a server that speaks its protocol, and the clients that a run uses."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_ray.config import load_config
from sppo_ray.errors import DamagedFile, RunFolderError, StorageError
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates, Snapshot
from sppo_ray.run_folder import Ledger, files, local, location, scratch
from sppo_ray.run_folder import lock as holding
from sppo_ray.run_folder.publishing import publish
from sppo_ray.run_folder.snapshots import verify
from sppo_ray.run_folder.storage import Disk
from tests.run_folders import candidates

ROWS = [candidates(["a bb", "ccc"])]

WRITER = """
import pickle, sys
from sppo_ray.records import Candidates
ledger, rows = pickle.load(sys.stdin.buffer)
ledger.write(rows, Candidates, ledger.block(Candidates, 1, 1))
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        location("s3://bucket").fs.mkdir("bucket")  # type: ignore[attr-defined]
        yield "s3://bucket"
    server.stop()


@pytest.fixture
def ledger(s3: str, request: pytest.FixtureRequest) -> Ledger:
    return Ledger(location(f"{s3}/{request.node.name}"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPPO_RAY_CACHE", str(tmp_path))
    return tmp_path


def published(ledger: Ledger, playground: Playground, iteration: int = 1) -> Snapshot:
    network = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.bfloat16)
    weights = {name: parameter.detach() + iteration for name, parameter in network.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    folder = ledger.iteration(iteration) / "policy"
    return publish(folder, iteration, shapes, torch.bfloat16, weights.items(), str(playground.policy), "# card")


def test_blocks_reports_and_configuration(ledger: Ledger) -> None:
    assert ledger.claim(load_config(), {}) and not ledger.claim(load_config(), {})
    path = ledger.block(Candidates, 1, 0)
    assert not ledger.has(path) and list(ledger.rows(Candidates, 1)) == []
    ledger.write(ROWS, Candidates, path)
    assert ledger.has(path) and ledger.candidates(1, 0) == ROWS

    # Another process writes a block after this one has listed the folder.
    subprocess.run([sys.executable, "-c", WRITER], input=pickle.dumps((ledger, ROWS)), check=True)
    assert list(ledger.rows(Candidates, 1)) == ROWS * 2

    path.write_bytes(b"?")
    assert not ledger.has(path) and path.with_name("00000.parquet.damaged").exists()
    ledger.write_report(1, {"iteration": 1})
    assert ledger.finished_iterations() == 1


def test_a_policy_is_loaded_from_a_verified_copy(ledger: Ledger, playground: Playground, cache: Path) -> None:
    snapshot = published(ledger, playground)
    assert snapshot.uri == f"{ledger.root}/iter-1/policy"
    assert ledger.snapshot(1) == snapshot == ledger.verified_snapshot(1)

    copy = local(snapshot)
    verify(copy)
    assert copy.uri.startswith(str(cache)) and copy.name == snapshot.name
    assert AutoModelForCausalLM.from_pretrained(copy.uri) and AutoTokenizer.from_pretrained(copy.uri).chat_template
    changed = Path(copy.uri).stat().st_ino
    assert local(snapshot) == copy and Path(copy.uri).stat().st_ino == changed


def test_a_damaged_policy_is_not_loaded_and_published_again(
    ledger: Ledger, playground: Playground, cache: Path
) -> None:
    snapshot = published(ledger, playground)
    files.write_bytes(ledger.iteration(1) / "policy" / "model.safetensors", b"?")
    with pytest.raises(DamagedFile, match=r"model\.safetensors does not match"):
        local(snapshot)
    assert not list(cache.rglob("*.safetensors"))
    assert ledger.verified_snapshot(1) is None and ledger.snapshot(1) is None
    assert published(ledger, playground) == ledger.verified_snapshot(1) == snapshot


def test_old_policies_are_removed(ledger: Ledger, playground: Playground) -> None:
    snapshots = [published(ledger, playground, iteration) for iteration in (1, 2, 3)]
    ledger.prune(2, in_use=snapshots[2])
    assert [ledger.snapshot(iteration) for iteration in (1, 2, 3)] == [None, *snapshots[1:]]
    assert not (ledger.iteration(1) / "policy").exists()


def test_one_run_has_the_folder(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "RENEW_SECONDS", 0.2)
    with ledger.hold(), pytest.raises(RunFolderError, match=f"in use by process {os.getpid()} of "), ledger.hold():
        pass
    assert not (ledger.root / "run.lease").exists()


@pytest.mark.parametrize(
    ("uri", "error", "words"),
    [
        ("s3://nowhere/run", RunFolderError, "create the bucket first"),
        ("nosuchfs://bucket/run", RunFolderError, "nosuchfs"),
        ("s3://bucket/run", StorageError, "see to the address, the credentials and the network"),
    ],
)
def test_buckets_that_cannot_be_used(
    s3: str, monkeypatch: pytest.MonkeyPatch, uri: str, error: type[Exception], words: str
) -> None:
    if error is StorageError:
        monkeypatch.setattr(location(uri).fs, "pipe_file", refused)  # type: ignore[attr-defined]
    with pytest.raises(error, match=words), Ledger(location(uri)).hold():
        pass


def refused(*_: object, **__: object) -> None:
    raise PermissionError("Access Denied")


KILLED = """
import os, signal, sys
from sppo_ray.run_folder import scratch
with scratch() as folder:
    (folder / "model.safetensors").write_bytes(b"weights")
    print(folder, flush=True)
    if sys.argv[1] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_what_a_killed_process_had_on_its_way_is_removed_by_the_next_one(cache: Path) -> None:
    """Of a live process it stays."""

    def start(how: str) -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", KILLED, how]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        return process, Path(process.stdout.readline().strip())

    dead, left = start("die")
    dead.wait()
    assert (left / "model.safetensors").exists() and left.is_relative_to(cache)
    alive, kept = start("live")
    assert not left.exists()
    with scratch() as mine:
        assert {path for path in mine.parent.iterdir() if path.is_dir()} == {mine, kept}
    assert (kept / "model.safetensors").exists()
    alive.communicate("")
    assert list(mine.parent.iterdir()) == []


def test_an_upload_that_fails_once_is_done_again(
    ledger: Ledger, playground: Playground, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [TimeoutError("the network is slow")]

    class Slow(Disk):
        def upload(self, file: Path, path: Path) -> None:
            if failures and file.name == "model.safetensors":
                raise failures.pop()
            super().upload(file, path)

    monkeypatch.setattr(files, "RETRY_SECONDS", (0.0,))
    monkeypatch.setattr(files, "disk", Slow())
    snapshot = published(ledger, playground)
    assert not failures and ledger.verified_snapshot(1) == snapshot
    assert not any(path.is_dir() for path in (cache / "scratch").iterdir())
