"""How far the stages of an iteration are.

In: counts, as stages finish work. Out: a line a stage for people (a bar, the rate, the time left), seconds for the report.
"""

import time
from dataclasses import dataclass, field

from tqdm import tqdm


@dataclass
class Stage:
    """Counts of one stage; times are seconds since the epoch, None before the first count."""

    name: str
    unit: str
    total: int
    done: int = 0
    first: int = 0  # the first count: what came before it tells nothing of the rate
    started: float | None = None
    last: float | None = None

    def add(self, count: int) -> None:
        self.reach(min(self.total, self.done + count))

    def reach(self, done: int) -> None:
        if self.started is None:
            self.started, self.first = time.time(), done
        self.done, self.last = done, time.time()

    @property
    def seconds(self) -> float:
        """From the first count to the last."""
        return (self.last or 0.0) - (self.started or 0.0) if self.last else 0.0

    def line(self) -> str:
        elapsed = time.time() - self.started if self.started and self.done < self.total else self.seconds
        meter = tqdm.format_meter(
            self.done,
            self.total,
            elapsed,
            ncols=90,
            prefix=f"{self.name:<9}",
            unit=f" {self.unit}",
            ascii=" #",
            initial=self.first,
        )
        return str(meter)


@dataclass
class RunStatus:
    """What the coordinator says of the run. phase is a word for people; warnings are those of all iterations so far."""

    iteration: int = 0
    phase: str = "starting"
    stages: dict[str, Stage] = field(default_factory=dict)
    loss: float | None = None
    warnings: list[str] = field(default_factory=list)


def new_stages(prompts: int) -> dict[str, Stage]:
    """The three stages of an iteration with that many prompts, each of which gives one pair."""
    return {
        "generate": Stage("sampling", "prompts", prompts),
        "judge": Stage("judging", "prompts", prompts),
        "train": Stage("training", "pairs", prompts),
    }
