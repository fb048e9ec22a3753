"""The shell around a judge.

In: a block of candidates in the ledger. Out: the block judged, written to the ledger.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.placement import role_options
from sppo_ray.config import Config
from sppo_ray.errors import EngineFailed
from sppo_ray.ledger import Ledger
from sppo_ray.preference import select_pair, win_rates
from sppo_ray.records import Candidates, Judged

if TYPE_CHECKING:
    from sppo_ray.judging import Judge


@ray.remote(max_restarts=-1)
class RankerActor:
    def __init__(self, name: str, build: "Callable[[], Judge]", ledger: Ledger, config: Config) -> None:
        self._name = name
        self._ledger = ledger
        self._config = config.judge
        self._build = build
        self._started: Any = None

    def __repr__(self) -> str:
        return self._name

    @property
    def _engine(self) -> Any:
        if self._started is None:
            # Ray restarts a process that died while it was idle, and nobody has noticed yet.
            raise EngineFailed(f"{self._name} has started again and holds no engine yet")
        return self._started

    def placed(self) -> None:
        """Answers as soon as the process runs."""

    def ready(self) -> tuple[int, None]:
        """Start the engine: here and not in the constructor, which Ray would repeat for ever if it failed."""
        if self._started is None:
            self._started = self._build()
        return os.getpid(), None

    def sleep(self) -> None:
        self._engine.sleep()

    def wake(self) -> None:
        self._engine.wake()

    def judge(self, candidates: Path, judged: Path) -> None:
        """Compare the candidates of a block, all ordered pairs, and write what follows from it to the ledger."""
        rows = self._ledger.read(Candidates, candidates)
        texts = [row.prompt for row in rows], [row.responses for row in rows]
        comparisons, truncated = self._engine.compare(*texts), self._engine.truncated(*texts)
        how = self._config.estimator, self._config.temperature
        rates = win_rates(comparisons, *how)
        chosen, rejected = select_pair(comparisons, *how)
        self._ledger.write(
            [
                Judged(
                    prompt_id=row.prompt_id,
                    prompt=row.prompt,
                    responses=row.responses,
                    comparisons=comparisons[i].tolist(),
                    win_rates=rates[i].tolist(),
                    chosen=int(chosen[i]),
                    rejected=int(rejected[i]),
                    snapshot=row.snapshot,
                    truncated=float(truncated[i]),
                )
                for i, row in enumerate(rows)
            ],
            Judged,
            judged,
        )

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """The judge's comparison logits (N, K, K) of N prompts with K candidates each."""
        logits: NDArray[np.float32] = self._engine.compare(prompts, candidates)
        return logits


def start(config: Config, build: "Callable[[], Judge]", ledger: Ledger, name: str) -> Any:
    """A ranker actor on the resources that the configuration gives it."""
    return RankerActor.options(
        **role_options(config, "rankers"), max_concurrency=config.rankers.blocks + 2, max_task_retries=0
    ).remote(name, build, ledger, config)
