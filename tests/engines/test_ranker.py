"""The shell around a judge: what it writes to the ledger where the judge's comparisons are not numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.engines.ranker import RankerActor
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeJudge
from sppo_ray.records import Candidates, Judged
from sppo_ray.run_folder import Ledger
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
