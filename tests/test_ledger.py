"""The run folder: blocks are vouched for by digests, a changed configuration is refused key by key."""

from pathlib import Path

import pytest

from sppo_ray.config import load_config
from sppo_ray.errors import DamagedFile, RunFolderError
from sppo_ray.ledger import Ledger
from sppo_ray.records import Prompt

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
    assert {path.name for path in block.parent.iterdir()} == {"00003.parquet", "00003.parquet.sha256"}


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:50] + b"?" + data[51:]])
def test_a_truncated_or_altered_block_is_set_aside(ledger: Ledger, block: Path, damage) -> None:  # type: ignore[no-untyped-def]
    block.write_bytes(damage(block.read_bytes()))

    with pytest.raises(DamagedFile, match=r"00003\.parquet does not match"):
        ledger.read(Prompt, block)
    assert not ledger.has(block)
    assert block.with_name("00003.parquet.damaged").exists() and not block.exists()


def test_a_block_that_nothing_vouches_for_is_set_aside(ledger: Ledger, block: Path) -> None:
    block.with_name(block.name + ".sha256").unlink()
    assert not ledger.has(block)


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
