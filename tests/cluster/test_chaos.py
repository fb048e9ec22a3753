"""A killed process is a delay: a fixed sample of what `make chaos` does."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.judging import judged_rows
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates, Judged, Prompt, Snapshot
from sppo_ray.run_folder import HELD_OUT, Ledger
from sppo_ray.run_folder.blocks import to_bytes
from tests.cluster import chaos

SEED = 2  # of one to three kills; `make chaos` has more, and with odd ones the fakes sample differently each time


@pytest.fixture(scope="module")
def head(playground: Playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chaos.Head]:
    with chaos.ray_head(tmp_path_factory.mktemp("head")) as started:
        yield started


@pytest.fixture(scope="module")
def quiet(head: chaos.Head, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("quiet")
    outcome = chaos.fake_run(head, folder, [], None)
    assert faults(outcome) == [0] * 5
    return folder / "run", outcome.seconds


def test_kills_change_nothing(head: chaos.Head, quiet: tuple[Path, float], tmp_path: Path) -> None:
    kills = chaos.schedule(SEED, 0.7 * quiet[1])  # the quiet run is the first one on this Ray, and takes longer
    outcome = chaos.fake_run(head, tmp_path, kills, quiet[0])
    print(f"{outcome.seconds - quiet[1]:.0f} s lost to {outcome.kills}")
    assert outcome.kills
    assert faults(outcome) == [0] * 5
    assert head.left_behind() == []


def test_the_log_names_the_file_of_the_token_and_nothing_of_it(quiet: tuple[Path, float]) -> None:
    (said,) = re.findall("watch, steer, chat.*", (quiet[0].parent / "driver.log").read_text())
    assert re.fullmatch(r"watch, steer, chat: http://127.0.0.1:\d+ \(its token is in /\S+\.json\)", said)


def faults(outcome: chaos.Outcome) -> list[int]:
    return [getattr(outcome, name) for name in chaos.FAULTS]


@pytest.mark.parametrize("what", ["sampled", "sampled and judged", "evaluated"])
def test_samples_that_were_drawn_twice_are_seen(what: str, quiet: tuple[Path, float], tmp_path: Path) -> None:
    """Of a block, after the first samples were judged, trained or evaluated."""
    ledger = Ledger(shutil.copytree(quiet[0], tmp_path / "run"))
    folder = HELD_OUT if what == "evaluated" else None
    path = ledger.block(Candidates, 1, 0, folder)
    first = ledger.read(Candidates, path)
    prompts = [Prompt(row.prompt_id, row.prompt, row.prompt_token_ids) for row in first]
    policy = Snapshot(1 if folder else 0, "")
    again = FakeGenerator(policy, varied=True).generate(prompts, len(first[0].responses), policy.name)
    path.write_bytes(to_bytes(again, Candidates))
    if what == "sampled and judged":
        texts = [row.prompt for row in again], [row.responses for row in again]
        judge = FakeJudge()
        rows, _ = judged_rows(again, judge.compare(*texts), judge.truncated(*texts), ledger.config().judge)
        ledger.block(Judged, 1, 0).write_bytes(to_bytes(rows, Judged))
    outcome = chaos.check(chaos.Outcome(0.0), ledger.root, None, FakeJudge())
    assert outcome.contradictions and faults(outcome)[:4] == [0, 0, 0, 0]
