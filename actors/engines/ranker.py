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
    def __init__(self, name: str, build: "Callable[[], Judge]", ledger: Ledger, config: Config) -> None:
        super().__init__(name, build, ledger)
        self._config = config.judge
        self._thoughts = config.policy.thoughts

    def ready(self) -> tuple[int, None]:
        """Start the engine and return its process id. A judge holds no snapshot."""
        self._start()
        return os.getpid(), None

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

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """The judge's comparison logits (N, K, K) for N prompts with K candidates each."""
        shown = [[answer(text, self._thoughts) for text in texts] for texts in candidates]
        logits: NDArray[np.float32] = self._engine.compare(prompts, shown)
        return logits


def start(config: Config, build: "Callable[[], Judge]", ledger: Ledger, name: str) -> Any:
    """A ranker actor on the resources that the configuration gives it."""
    return RankerActor.options(
        **role_options(config, "rankers"), max_concurrency=config.rankers.blocks + 2, max_task_retries=0
    ).remote(name, build, ledger, config)
