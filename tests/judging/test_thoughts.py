"""Judges compare answers; candidates are stored whole."""

from pathlib import Path

import numpy as np
import pytest

from actors.engines import ranker
from sppo_ray.config import load_config
from sppo_ray.fakes import FakeJudge
from sppo_ray.records import Candidates, Judged
from sppo_ray.run_folder import Ledger

THOUGHTS = r"(?s)\A(?:.*?</think>\s*|\s*<think>.*)"
RESPONSES = ["<think>long thought</think>\n\nYes.", "No.", "<think>cut off"]


class SeeingJudge(FakeJudge):
    """Remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[str]] = []

    def compare(self, prompts, candidates):  # type: ignore[no-untyped-def]
        self.seen += [list(texts) for texts in candidates]
        return super().compare(prompts, candidates)


@pytest.mark.parametrize("thoughts, shown", [(THOUGHTS, ["Yes.", "No.", ""]), (None, RESPONSES), ("", RESPONSES)])
def test_a_judge_is_shown_answers(tmp_path: Path, thoughts: str | None, shown: list[str]) -> None:
    ledger, judge = Ledger(tmp_path), SeeingJudge()
    config = load_config()
    config = config.model_copy(update={"policy": config.policy.model_copy(update={"thoughts": thoughts})})
    ids = [[1, 2], [3], [4]]
    row = Candidates("p", "Well?", [7], RESPONSES, ids, [[-0.5, -0.5], [-0.5], [-0.5]], ["stop"] * 3, "iter-0")
    candidates, judged = ledger.block(Candidates, 1, 0), ledger.block(Judged, 1, 0)
    ledger.write([row], Candidates, candidates)
    actor = ranker.RankerActor.__ray_actor_class__("ranker-0", lambda: judge, ledger, config)
    actor.ready()
    actor.judge(candidates, judged)
    logits = actor.compare(["Well?"], [RESPONSES])
    assert judge.seen == [shown, shown]
    (stored,), (found,) = ledger.read(Candidates, candidates), ledger.read(Judged, judged)
    assert (stored.responses, stored.token_ids) == (RESPONSES, ids)
    assert found.responses == shown
    assert np.array_equal(logits[0], np.float32(found.comparisons))
