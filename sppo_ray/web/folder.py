"""The run folder as the service reads it: reports, curves and samples, each file once.

In: the ledger. Out: what is finished, and pages of samples: an index of numbers is kept, texts are read block by block.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sppo_ray.config import Config
from sppo_ray.records import Judged, Snapshot
from sppo_ray.reporting.charts import Chart
from sppo_ray.reporting.page import run_charts
from sppo_ray.reporting.pair_browser import disagreement, margin, shown
from sppo_ray.run_folder import Ledger

BLOCKS = 32  # in memory
Sort = Literal["margin", "disagreement", "prompt"]
Order = Literal["descending", "ascending"]


@dataclass
class RunFolder:
    ledger: Ledger
    _reports: list[dict[str, Any]] = field(default_factory=list)
    _charts: tuple[int, list[Chart]] = (0, [])
    # Margins and disagreements of each judged block, (rows, 2); a block never changes once it exists.
    _index: dict[Path, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._reading = Lock()  # the service reads from several threads
        self._block = lru_cache(maxsize=BLOCKS)(partial(self.ledger.read, Judged))

    @cached_property
    def config(self) -> Config:
        return self.ledger.config()

    def reports(self) -> list[dict[str, Any]]:
        """The reports of the finished iterations, in order."""
        with self._reading:
            while (report := self.ledger.report(len(self._reports) + 1)) is not None:
                self._reports.append(report)
        return self._reports

    def charts(self) -> list[Chart]:
        reports = self.reports()
        if len(reports) != self._charts[0]:
            self._charts = (len(reports), run_charts(self.ledger, reports))
        return self._charts[1]

    def snapshots(self) -> list[Snapshot]:
        """The base and the published policies, in order."""
        published = [self.ledger.snapshot(number) for number in range(1, self.config.iterations + 1)]
        return [Snapshot(0, self.config.policy.model), *(one for one in published if one is not None)]

    def samples(
        self, iteration: int, sort: Sort, order: Order, search: str, page: int, size: int
    ) -> tuple[int, list[dict[str, Any]]]:
        """How many of an iteration's judged prompts contain the words, and one page of them."""
        places, numbers = self._places(iteration)
        if search:
            found = [number for number, place in enumerate(places) if _holds(self._at(place), search.casefold())]
        else:
            found = list(range(len(places)))
        if sort != "prompt":
            column = numbers[found, 0 if sort == "margin" else 1]
            found = [found[n] for n in np.argsort(column if order == "ascending" else -column, kind="stable")]
        elif order == "descending":
            found.reverse()
        start = (page - 1) * size
        rows = [self._at(places[number]) for number in found[start : start + size]]
        return len(found), [
            {"prompt_id": row.prompt_id, "truncated": row.truncated, **shown(row, self.config, iteration)}
            for row in rows
        ]

    def _places(self, iteration: int) -> tuple[list[tuple[Path, int]], NDArray[np.float64]]:
        """Where each judged prompt of an iteration is (block, row), in their order, and its numbers."""
        parts = []
        places: list[tuple[Path, int]] = []
        for path in self.ledger.blocks(Judged, iteration):
            if path not in self._index:
                numbers = [(margin(row), disagreement(row)) for row in self._block(path)]
                self._index[path] = np.array(numbers, np.float64).reshape(-1, 2)  # none, if all prompts were set aside
            parts.append(self._index[path])
            places += [(path, row) for row in range(len(self._index[path]))]
        return places, np.concatenate(parts) if parts else np.empty((0, 2))

    def _at(self, place: tuple[Path, int]) -> Judged:
        return self._block(place[0])[place[1]]


def _holds(row: Judged, words: str) -> bool:
    return any(words in text.casefold() for text in (row.prompt, *row.responses))
