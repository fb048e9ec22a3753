"""Held-out win rates by the judge that trains and by another one, on a ranker without a cluster."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.engines.ranker import RankerActor
from actors.run.evaluation import compare_held_out, sample_held_out
from actors.run.scoring import EnginePools
from sppo_ray.config import Config, load_config
from sppo_ray.errors import BlockFailed, RunFailed
from sppo_ray.fakes import FakeJudge
from sppo_ray.records import Candidates, Judged, Prompt, Snapshot
from sppo_ray.run_folder import HELD_OUT, Ledger
from tests.run_folders import candidates

Ranker = RankerActor.__ray_metadata__.modified_class
OTHER = ["evaluation.judge.kind=python", "evaluation.judge.model=math:fsum"]


class LongerWins(FakeJudge):
    def compare(self, prompts: Any, candidates: Any) -> Any:
        scores = np.array([[len(text) for text in texts] for texts in candidates], dtype=np.float32)
        return (scores[:, :, None] - scores[:, None, :]) * self.sign

    sign = 1


class ShorterWins(LongerWins):
    sign = -1


def caller(call: Any) -> Any:
    """A pool of which only `call` is used."""
    return SimpleNamespace(call=SimpleNamespace(remote=call))


def held_out(tmp_path: Path, *overrides: str, copies: int = 1, broken: str = "none") -> dict[str, Any]:
    """Iteration 2's responses are longer than the base's, and shorter than iteration 1's for one prompt of two.

    broken: a prompt that every judge fails on.
    """
    config, ledger = load_config(overrides=["evaluation.responses=1", *overrides]), Ledger(tmp_path)
    for iteration, texts in enumerate([["a", "a"], ["bb", "bb bb"], ["ccc", "ccc"]]):
        rows = [candidates([text], prompt=f"p{n}") for n, text in enumerate(texts * copies)]
        ledger.write(rows, Candidates, ledger.block(Candidates, iteration, 0, HELD_OUT))
    ranker = ready(config, ledger)

    async def call(method: str, prompts: list[str], *rest: Any) -> Any:
        if broken in prompts:
            raise BlockFailed("ranker-0: no words")
        return getattr(ranker, method)(prompts, *rest)

    pools = EnginePools(config, ledger, None, caller(call))
    return asyncio.run(compare_held_out(pools, 2, None))


def ready(config: Config, ledger: Ledger) -> Any:
    ranker = Ranker("ranker-0", LongerWins, ledger, config, ShorterWins if config.evaluation.judge else None)
    ranker.ready()
    return ranker


def test_the_judge_that_trains_marks_alone(tmp_path: Path) -> None:
    found = held_out(tmp_path)
    assert (found["win_rate_vs_base"], found["win_rate_vs_previous"]) == (1.0, 0.5)
    assert not [name for name in found if name.startswith("training_judge")]


def test_a_judge_that_likes_length_alone_is_controlled(tmp_path: Path) -> None:
    """Against the previous iteration half the responses are longer and win, by one character, half are shorter and lose, by two."""
    assert held_out(tmp_path / "few")["lc_win_rate_vs_base"] is None
    found = held_out(tmp_path / "many", copies=20)
    low, high = found["lc_win_rate_vs_previous_interval"]
    assert found["win_rate_vs_previous"] == 0.5 and 0 <= low <= high <= 1
    assert found["lc_win_rate_vs_previous"] > 0.5  # the boundary lies halfway, at half a character less


def test_another_judge_marks_and_the_one_that_trains_is_shown_beside_it(tmp_path: Path) -> None:
    found = held_out(tmp_path, *OTHER)
    assert (found["win_rate_vs_base"], found["win_rate_vs_previous"]) == (0.0, 0.5)
    assert (found["training_judge_win_rate_vs_base"], found["training_judge_win_rate_vs_previous"]) == (1.0, 0.5)
    assert found["training_judge_win_rate_vs_base_interval"] == [1.0, 1.0]


def test_what_a_judge_cannot_compare_is_a_tie_up_to_the_tolerance(tmp_path: Path) -> None:
    """One prompt of four; the others' responses beat the base's, and one of three beats the previous iteration's."""
    found = held_out(tmp_path / "some", "max_set_aside=0.25", copies=2, broken="Prompt p0")
    assert found["win_rate_vs_base"] == (0.5 + 1 + 1 + 1) / 4
    assert found["win_rate_vs_previous"] == (0.5 + 0 + 1 + 0) / 4
    with pytest.raises(RunFailed, match=r"^1 comparisons of .* were set aside, 25.0%; max_set_aside is 1.0%"):
        held_out(tmp_path / "none", copies=2, broken="Prompt p0")


def test_a_held_out_prompt_that_no_engine_answers_is_left_out_up_to_the_tolerance(tmp_path: Path) -> None:
    """Of four prompts one fails in its block and on its own: the other three are sampled."""

    async def generate(method: str, path: Path, prompts: list[Prompt], *rest: Any, alone: bool = False) -> int:
        if any(prompt.prompt_id == "p0" for prompt in prompts):
            raise BlockFailed("generator-0: out of words")
        ledger.write([candidates(["a"], prompt=prompt.prompt_id) for prompt in prompts], Candidates, path)
        return len(prompts)

    for share, left in ((0.25, True), (0.2, False)):
        ledger = Ledger(tmp_path / str(share))
        ledger.write_prompts(0, [Prompt(f"p{n}", f"Prompt p{n}", [1]) for n in range(4)])
        pools = EnginePools(load_config(overrides=[f"max_set_aside={share}"]), ledger, caller(generate), None)
        sampled = sample_held_out(pools, 0, Snapshot(0, "base"))
        if left:
            asyncio.run(sampled)
        else:
            words = (
                r"iteration 0: 1 held-out prompts were set aside, 25.0%; .* The last is p0: generator-0: out of words"
            )
            with pytest.raises(RunFailed, match=words):
                asyncio.run(sampled)
        assert [row.prompt_id for row in ledger.held_out(0)] == ["p1", "p2", "p3"]


def test_both_judges_sleep_and_wake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []
    for name in ("sleep", "wake"):
        monkeypatch.setattr(LongerWins, name, lambda self, name=name: seen.append((name, type(self).__name__)))
    ranker = ready(load_config(overrides=OTHER), Ledger(tmp_path))
    ranker.sleep()
    ranker.wake()
    assert seen == [(name, judge) for name in ("sleep", "wake") for judge in ("LongerWins", "ShorterWins")]


def test_training_is_judged_by_the_judge_that_trains(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ranker = ready(load_config(overrides=OTHER), ledger)
    blocks = tmp_path / "candidates.parquet", tmp_path / "judged.parquet"
    ledger.write([candidates(["a", "bb"])], Candidates, blocks[0])
    ranker.judge(*blocks)
    assert ledger.read(Judged, blocks[1])[0].chosen == 1
