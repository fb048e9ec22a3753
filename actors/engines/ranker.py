"""The actor around a judge.

In: a block of candidates in the ledger. Out: the judged block, written to the ledger.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.cluster.placement import role_options
from actors.engines.engine import EngineActor
from sppo_ray.config import Config
from sppo_ray.judging import answer, answers, judged_rows
from sppo_ray.records import Candidates, Judged, SetAside
from sppo_ray.run_folder import Ledger

if TYPE_CHECKING:
    from sppo_ray.judging import Judge


@ray.remote(max_restarts=-1)
class RankerActor(EngineActor):
    """build_evaluation: of the judge that marks held-out responses, where it is another."""

    def __init__(
        self,
        name: str,
        build: "Callable[[], Judge]",
        ledger: Ledger,
        config: Config,
        build_evaluation: "Callable[[], Judge] | None" = None,
    ) -> None:
        super().__init__(name, build, ledger)
        self._build_evaluation = build_evaluation
        self._evaluation: Judge | None = None
        self._config = config.judge
        self._thoughts = config.policy.thoughts

    def ready(self) -> tuple[int, None]:
        """Start the engine and return its process id. A judge holds no snapshot."""
        self._start()
        if self._build_evaluation is not None and self._evaluation is None:
            self._evaluation = self._build_evaluation()
        return os.getpid(), None

    def sleep(self) -> None:
        for judge in self._judges():
            judge.sleep()

    def wake(self) -> None:
        for judge in self._judges():
            judge.wake()

    def judge(self, candidates: Path, judged: Path) -> list[SetAside]:
        """Compare all ordered pairs of a block's candidates and write the judged rows to the ledger.

        Returns the prompts that are set aside, which the ledger names, too.
        """
        rows = answers(self._ledger.read(Candidates, candidates), self._thoughts)
        texts = [row.prompt for row in rows], [row.responses for row in rows]
        comparisons, truncated = self._engine.compare(*texts), self._engine.truncated(*texts)
        found, unusable = judged_rows(rows, comparisons, truncated, self._config)
        if unusable:
            self._ledger.write_set_aside(judged, unusable)
        self._ledger.write(found, Judged, judged)
        return unusable

    def compare(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], evaluation: bool = False
    ) -> NDArray[np.float32]:
        """Comparison logits (N, K, K) for N prompts with K candidates each. evaluation: by the judge of `evaluation.judge`."""
        shown = [[answer(text, self._thoughts) for text in texts] for texts in candidates]
        logits: NDArray[np.float32] = self._judges()[-1 if evaluation else 0].compare(prompts, shown)
        return logits

    def _judges(self) -> "list[Judge]":
        """The judge that trains, and after it the one that evaluates, where it is another."""
        return [self._engine, *([self._evaluation] if self._evaluation is not None else [])]


def start(
    config: Config,
    build: "Callable[[], Judge]",
    ledger: Ledger,
    name: str,
    build_evaluation: "Callable[[], Judge] | None" = None,
) -> Any:
    """A ranker actor on the resources that the configuration gives it."""
    return RankerActor.options(
        **role_options(config, "rankers"), max_concurrency=config.rankers.blocks + 2, max_task_retries=0
    ).remote(name, build, ledger, config, build_evaluation)
