"""The run folder: blocks are vouched for by digests, a changed configuration is refused key by key."""

from hashlib import sha256
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sppo_ray.config import load_config
from sppo_ray.errors import DamagedFile, RunFolderError
from sppo_ray.records import Prompt, Snapshot
from sppo_ray.run_folder import Ledger, files
from sppo_ray.run_folder.blocks import BLANK, is_whole
from sppo_ray.run_folder.snapshots import MANIFEST

PROMPTS = [Prompt("a", "Text \u0000 with null", [1, 2]), Prompt("b", "שלום 🙂", [])]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture
def block(ledger: Ledger) -> Path:
    path = ledger.block(Prompt, 1, 3)
    ledger.write(PROMPTS, Prompt, path)
    return path


def test_a_block_comes_back_as_it_was_written(ledger: Ledger, block: Path) -> None:
    assert block.name == "00003.parquet" and block.parent.parent.name == "iter-1"
    assert ledger.has(block)
    assert ledger.read(Prompt, block) == PROMPTS
    assert [path.name for path in block.parent.iterdir()] == ["00003.parquet"]


def test_prompts_are_made_as_they_are_asked_for(ledger: Ledger) -> None:
    many = [Prompt(f"p{number}", "text", [number, number + 1]) for number in range(2500)]
    ledger.write_prompts(1, many)
    found = ledger.prompts(1)
    assert len(found) == 2500 and list(found) == many and found.column("prompt_id")[-1] == "p2499"
    part = found[2400:2600]
    assert (len(part), list(part), found[-1], part[0]) == (100, many[2400:], many[-1], many[2400])
    # Two tokens of 4 bytes, a name of up to 5 characters, a text of 4, and an offset of 4 bytes for each of the three.
    assert found._table.nbytes / 2500 < 2 * 4 + 5 + 4 + 3 * 4 + 4


@pytest.mark.parametrize("texts", [[], [f"sha256:{BLANK.decode()}", "a" * 100]])
def test_a_block_names_the_digest_of_its_bytes_with_zeros_in_its_place(ledger: Ledger, texts: list[str]) -> None:
    """Also a block without rows, and one whose texts look like a digest."""
    path = ledger.block(Prompt, 1, 0)
    rows = [Prompt(str(n), text, []) for n, text in enumerate(texts)]
    ledger.write(rows, Prompt, path)
    assert ledger.read(Prompt, path) == rows
    digest = pq.read_metadata(path).metadata[b"digest"].removeprefix(b"sha256:")
    data = path.read_bytes()
    assert data.count(digest) == 1 and sha256(data.replace(digest, BLANK)).hexdigest().encode() == digest


def test_every_byte_of_a_block_counts(block: Path) -> None:
    data = block.read_bytes()
    assert is_whole(data)
    for at in range(len(data)):
        assert not is_whole(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert not is_whole(data[:at])


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:50] + b"?" + data[51:]])
def test_a_truncated_or_altered_block_is_set_aside(ledger: Ledger, block: Path, damage) -> None:  # type: ignore[no-untyped-def]
    block.write_bytes(damage(block.read_bytes()))

    with pytest.raises(DamagedFile, match=r"00003\.parquet does not match"):
        ledger.read(Prompt, block)
    assert not ledger.has(block)
    assert block.with_name("00003.parquet.damaged").exists() and not block.exists()


def test_a_block_that_nothing_vouches_for_is_set_aside(ledger: Ledger, block: Path) -> None:
    pq.write_table(pq.read_table(block).replace_schema_metadata(), block)
    assert not ledger.has(block)


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_path_that_is_no_run_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match=f"{name} is no run folder: it holds no config.yaml"):
        Ledger(tmp_path / name).config()


def test_the_same_run_is_continued_and_another_one_refused(ledger: Ledger) -> None:
    assert ledger.claim(load_config(), {"versions": {}})
    assert not ledger.claim(load_config(overrides=["generators.max=4", "training.cpus=1"]), {})
    with pytest.raises(RunFolderError) as caught:
        ledger.claim(load_config(overrides=["training.eta=7", "seed=1"]), {})
    assert "seed: 42 there, 1 now" in str(caught.value)
    assert "training.eta: 5.0 there, 7.0 now" in str(caught.value)


def test_finished_iterations_are_those_with_a_report(ledger: Ledger) -> None:
    assert ledger.finished_iterations() == 0
    ledger.write_report(1, {"iteration": 1})
    ledger.write_report(3, {"iteration": 3})
    assert ledger.finished_iterations() == 1


def test_a_whole_block_is_not_written_twice(ledger: Ledger, block: Path) -> None:
    """What came after it was computed from it: a late writer changes nothing."""
    ledger.write(PROMPTS[:1], Prompt, block)
    assert ledger.read(Prompt, block) == PROMPTS


def policy(ledger: Ledger, iteration: int, report: bool = True) -> Snapshot:
    """A published policy of one file, and the report that finishes its iteration."""
    folder = ledger.iteration(iteration) / "policy"
    files.write_bytes(folder / "model.safetensors", b"weights")
    files.write_json(folder / MANIFEST, {"files": {"model.safetensors": files.digest_bytes(b"weights")}})
    if report:
        ledger.write_report(iteration, {"iteration": iteration})
    snapshot = ledger.snapshot(iteration)
    assert snapshot
    return snapshot


def test_a_run_goes_on_from_its_last_whole_policy(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    assert ledger.resume() == (0, None)
    first, second, unfinished = policy(ledger, 1), policy(ledger, 2), policy(ledger, 3, report=False)
    assert ledger.resume() == (2, second)
    assert ledger.verified_snapshot(3) == unfinished

    (ledger.iteration(2) / "policy" / "model.safetensors").write_bytes(b"weight?")
    assert ledger.snapshot(2) == second
    assert ledger.resume() == (1, first)
    assert "model.safetensors does not match its digest in manifest.json: set aside" in caplog.text
    assert "iteration 2 has no whole policy: it is trained again" in caplog.text
    assert ledger.finished_iterations() == 1 and ledger.snapshot(2) is None


@pytest.mark.parametrize(("keep", "left"), [(None, [1, 2, 3, 4]), (1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4])])
def test_the_last_policies_are_kept(ledger: Ledger, keep: int | None, left: list[int]) -> None:
    snapshots = [policy(ledger, iteration) for iteration in (1, 2, 3, 4)]
    ledger.prune(keep, in_use=snapshots[3])
    assert [iteration for iteration in (1, 2, 3, 4) if ledger.snapshot(iteration)] == left
    assert ledger.finished_iterations() == 4 and ledger.resume() == (4, snapshots[3])


def test_the_policy_in_use_is_kept_when_it_is_not_among_the_last(ledger: Ledger) -> None:
    """A new policy is published, and the engines do not hold it yet."""
    snapshots = [policy(ledger, iteration) for iteration in (1, 2, 3)]
    ledger.prune(1, in_use=snapshots[1])
    assert [iteration for iteration in (1, 2, 3) if ledger.snapshot(iteration)] == [2, 3]


def test_what_may_change_takes_its_new_value(ledger: Ledger) -> None:
    ledger.claim(load_config(), {"versions": {"torch": "2"}})
    overrides = ["storage.keep_snapshots=2", "training.reference_tolerance=0.5", "training.gradient_checkpointing=true"]
    changed = load_config(overrides=overrides)
    assert not ledger.claim(changed, {})
    assert ledger.config() == changed
    assert "torch: '2'" in (ledger.root / "config.yaml").read_text()


@pytest.mark.parametrize(("workers", "kept"), [(1, False), (2, True)])
def test_another_number_of_workers_drops_their_checkpoints(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, workers: int, kept: bool
) -> None:
    ledger.claim(load_config(), {})  # two workers
    files.write_bytes(ledger.checkpoints / "train" / "iter-1-step-10" / "zero_pp_rank_0", b"weights")
    assert not ledger.claim(load_config(overrides=[f"training.workers={workers}", "training.cpus=0.5"]), {})
    assert ledger.checkpoints.exists() == kept
    assert ("trained again from its first step" in caplog.text) != kept


def test_a_run_folder_made_before_there_was_a_storage_section_is_continued(ledger: Ledger) -> None:
    ledger.claim(load_config(), {})
    config = ledger.root / "config.yaml"
    config.write_text(config.read_text().replace("  storage:\n    keep_snapshots: null\n    keep_checkpoints: 1\n", ""))
    assert "storage" not in config.read_text()
    assert not ledger.claim(load_config(), {})


def test_a_run_folder_of_another_version_is_refused_by_its_key(ledger: Ledger) -> None:
    ledger.claim(load_config(), {})
    config = ledger.root / "config.yaml"
    config.write_text(config.read_text().replace("  seed: 42\n", "  seed: 42\n  sead: 42\n"))
    with pytest.raises(RunFolderError, match=r"config\.yaml is of another version of sppo-ray: there is no key sead"):
        ledger.claim(load_config(), {})
