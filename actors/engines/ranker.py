"""The actor around a judge.

In: a block of candidates in the ledger. Out: the judged block, written to the ledger.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from numpy.typing import NDArray

from actors.cluster.placement import role_options
from actors.engines.engine import EngineActor
from sppo_ray.config import Config
from sppo_ray.errors import JudgeUnavailable
from sppo_ray.judging import Metered, answer, answers, judged_rows
from sppo_ray.records import Candidates, Judged, SetAside
from sppo_ray.run_folder import Ledger, read_usage, write_usage

if TYPE_CHECKING:
    from sppo_ray.judging import Judge


SECTIONS = ("judge", "evaluation.judge")  # of the configuration


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
        self._life, self._accounting = f"{name}-{uuid.uuid4().hex[:8]}", Lock()
        self._build_evaluation = build_evaluation
        self._evaluation: Judge | None = None
        self._settings = config.judges
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
        with self._accounted(0):
            comparisons, truncated = self._engine.compare(*texts), self._engine.truncated(*texts)
        found, unusable = judged_rows(rows, comparisons, truncated, self._settings[0])
        if unusable:
            self._ledger.write_set_aside(judged, unusable)
        self._ledger.write(found, Judged, judged)
        return unusable

    def compare(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]], evaluation: bool = False
    ) -> NDArray[np.float32]:
        """Comparison logits (N, K, K) for N prompts with K candidates each. evaluation: by the judge of `evaluation.judge`."""
        shown = [[answer(text, self._thoughts) for text in texts] for texts in candidates]
        number = len(self._judges()) - 1 if evaluation else 0
        with self._accounted(number):
            logits: NDArray[np.float32] = self._judges()[number].compare(prompts, shown)
        return logits

    @contextmanager
    def _accounted(self, number: int) -> Iterator[None]:
        """Refuse work once the judge's budget is spent, and note afterwards what it has used, also where the work failed.

        Raises `JudgeUnavailable`. Calls that have begun are finished: they may spend more.
        """
        section, budget = SECTIONS[number], self._settings[number].budget
        if budget is not None and (spent := read_usage(self._ledger.root).get(section, {}).get("usd", 0.0)) >= budget:
            raise JudgeUnavailable(
                f"{section}.budget={budget:g} US dollars is spent ({spent:.4g} so far): the same command with a larger one "
                "goes on"
            )
        try:
            yield
        finally:
            metered = {
                name: one for name, one in zip(SECTIONS, self._judges(), strict=False) if isinstance(one, Metered)
            }
            if metered:
                with self._accounting:
                    write_usage(
                        self._ledger.root, self._life, {name: asdict(one.usage) for name, one in metered.items()}
                    )

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
