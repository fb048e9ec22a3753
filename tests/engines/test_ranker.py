"""The shell around a judge: what it writes to the ledger where the judge's comparisons are not numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.engines.ranker import RankerActor
from sppo_ray.config import load_config
from sppo_ray.errors import JudgeUnavailable
from sppo_ray.fakes import FakeJudge
from sppo_ray.judging import Usage
from sppo_ray.records import Candidates, Judged
from sppo_ray.run_folder import Ledger, read_usage
from tests.run_folders import candidates

Ranker = RankerActor.__ray_metadata__.modified_class  # the class that Ray makes an actor of


class NanJudge(FakeJudge):
    """Its comparisons with a text that begins with "nan" are not numbers."""

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        broken = np.array([[text.startswith("nan") for text in texts] for texts in candidates])
        return np.where(broken[:, :, None] | broken[:, None, :], np.nan, super().compare(prompts, candidates))


def test_unusable_prompts_are_named_in_the_ledger_and_returned(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    blocks = [ledger.block(kind, 1, 0) for kind in (Candidates, Judged)]
    sampled = [
        candidates(["a", "bb", "ccc"], prompt="p0"),
        candidates(["a", "nan 1", "nan 2"], prompt="p1"),
        candidates(["a", "nan 3", "ccc"], prompt="p2"),
    ]
    ledger.write(sampled, Candidates, blocks[0])
    ranker = Ranker("ranker-0", NanJudge, ledger, load_config())
    ranker.ready()

    unusable = ranker.judge(*blocks)
    assert [prompt.prompt_id for prompt in unusable] == ["p1"] and ledger.set_aside(1) == unusable
    judged = ledger.judged(1, 0)
    assert [row.prompt_id for row in judged] == ["p0", "p2"]
    assert {judged[1].chosen, judged[1].rejected} == {0, 2} and np.isnan(judged[1].win_rates).tolist() == [
        False,
        True,
        False,
    ]


class PaidJudge(FakeJudge):
    """A prompt costs a dollar."""

    def __init__(self) -> None:
        super().__init__()
        self.usage = Usage()

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        self.usage.questions += 2 * len(prompts)
        self.usage.usd += len(prompts)
        return super().compare(prompts, candidates)


def test_rankers_share_a_budget_and_what_they_use_outlives_them(tmp_path: Path) -> None:
    ledger, duel = Ledger(tmp_path), [["a", "b"]]
    paid = ["judge={kind: llm, model: m, budget: 3.5, price: {input: 1, output: 1}}"]
    config = load_config(overrides=[*paid, "evaluation.judge={kind: python, model: x}"])

    def life() -> RankerActor:
        ranker = Ranker("ranker-0", PaidJudge, ledger, config, FakeJudge)
        ranker.ready()
        return ranker

    first, second = life(), life()
    first.compare(["p0"], duel)
    second.compare(["p1", "p2"], 2 * duel)
    second.compare(["p3"], duel)  # 3 of 3.5 dollars were spent
    assert read_usage(tmp_path)["judge"] | {"questions": 8, "usd": 4.0} == read_usage(tmp_path)["judge"]
    for ranker in (first, second, life()):
        with pytest.raises(JudgeUnavailable, match=r"judge\.budget=3\.5 US dollars is spent \(4 so far\)"):
            ranker.compare(["p4"], duel)
        ranker.compare(["p4"], duel, evaluation=True)  # the other judge has no budget
    assert read_usage(tmp_path)["judge"]["usd"] == 4.0 and list(read_usage(tmp_path)) == ["judge"]
