"""Ray's counters of a run, through a restart of the coordinator that counts."""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actors.service import metrics
from sppo_ray.reporting import RunStatus, new_stages
from tests.run_folders import run_folder


class Number:
    """Stands for Ray's counter, and for a gauge that nobody reads."""

    counted: ClassVar[Counter[str]] = Counter()

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self._name = name

    def set(self, value: float, tags: dict[str, str]) -> None:
        """A gauge's last value."""

    def inc(self, more: int, tags: dict[str, str]) -> None:
        self.counted[self._name] += more


def test_an_iteration_that_is_counted_again_is_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """220 prompts are sampled; the coordinator restarts after 100 and finds them in the run folder one by one."""
    monkeypatch.setattr(metrics, "Counter", Number)
    monkeypatch.setattr(metrics, "Gauge", Number)
    monkeypatch.setattr(Number, "counted", Counter())
    shown: Any = metrics.RunMetrics(run_folder(tmp_path / "run", ["a b", "c"]))
    for iteration, done in [(1, 40), (1, 100), (1, 0), (1, 60), (1, 220), (2, 0), (2, 30)]:
        status = RunStatus(iteration=iteration, iterations=3, stages=new_stages(220))
        for key in ("generate", "judge"):
            status.stages[key].done = done
        shown.show(status)
    assert Number.counted == {"sppo_prompts_sampled": 250, "sppo_prompts_judged": 250, "sppo_comparisons": 500}
