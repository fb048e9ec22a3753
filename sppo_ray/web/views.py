"""The API's view of a run, as its OpenAPI document describes it.

In: `RunStatus` and the run folder. Out: plain numbers and words, times in seconds, rates per second.
"""

import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from sppo_ray.reporting import RunStatus, seconds_left
from sppo_ray.web.folder import RunFolder


class StageView(BaseModel):
    """rate: since the stage began, in units per second; what is under way counts in rate and seconds_left."""

    key: str
    name: str
    unit: str
    total: int
    done: int
    rate: float | None
    seconds_left: float | None


class MemberView(BaseModel):
    """failure: why its last start failed.  retry_at: when it starts again, in seconds since the epoch.

    tokens_per_second, sequences: what it samples now; null for a member that does not count them.
    """

    model_config = ConfigDict(from_attributes=True)

    name: str
    state: Literal["starting", "up", "asleep", "draining", "failed"]
    load: int
    restarts: int
    snapshot: str | None
    failure: str | None
    retry_at: float | None
    tokens_per_second: float | None
    sequences: int | None


class PoolView(BaseModel):
    """waiting: calls that no member has started.  tokens_per_second, sequences: of all members."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    target: int
    min: int
    max: int
    waiting: int
    tokens_per_second: float | None
    sequences: int | None
    members: list[MemberView]


class RunView(BaseModel):
    """pause_reason: where the run paused by itself.  step: the numbers of the last optimizer step.  seconds_left: known once an iteration is finished."""

    run: str
    recipe: str
    model: str
    iteration: int
    iterations: int
    finished: int
    phase: str
    paused: bool
    pause_reason: str | None
    started: float
    seconds_left: float | None
    stages: list[StageView]
    step: dict[str, float | int | None] | None
    warnings: list[str]
    set_aside: int
    trainer_restarts: int
    pools: list[PoolView]


class IterationView(BaseModel):
    """report: as in the run folder's iter-<t>/report.json."""

    iteration: int
    report: dict[str, Any]


class ResponseView(BaseModel):
    text: str
    win_rate: float | None  # None for a response that was set aside, as in the matrix
    mark: Literal["chosen", "rejected", ""]


class SampleView(BaseModel):
    """matrix[i][j]: P[response i beats response j].  disagreement: logits.  cycle: whether the preferences contain one."""

    prompt_id: str
    prompt: str
    margin: float
    disagreement: float
    cycle: bool
    truncated: float
    matrix: list[list[float | None]]
    responses: list[ResponseView]


class SamplesView(BaseModel):
    iteration: int
    total: int
    page: int
    size: int
    samples: list[SampleView]


class SnapshotView(BaseModel):
    """members: those that hold it now, of both pools."""

    name: str
    iteration: int
    uri: str
    digest: str
    members: list[str]


class LineView(BaseModel):
    name: str
    path: str
    band: str
    whiskers: str
    dots: list[tuple[float, float, str]]


class ChartView(BaseModel):
    """A line chart in the coordinates of its view box: SVG path data, ticks and marks."""

    title: str
    x_label: str
    lines: list[LineView]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[float]
    width: float
    height: float
    left: float
    right: float
    bottom: float
    top: float


def run_view(status: RunStatus, folder: RunFolder) -> RunView:
    config, reports = folder.config, folder.reports()
    return RunView(
        run=folder.ledger.root.name,
        recipe=config.recipe,
        model=config.policy.model,
        iteration=status.iteration,
        iterations=config.iterations,
        finished=len(reports),
        phase=status.phase,
        paused=status.paused,
        pause_reason=status.pause_reason,
        started=status.started,
        seconds_left=_seconds_left(status, folder),
        stages=_stages(status),
        step=status.step,
        warnings=status.warnings,
        set_aside=status.set_aside,
        trainer_restarts=status.trainer_restarts,
        pools=pool_views(status),
    )


def pool_views(status: RunStatus) -> list[PoolView]:
    # The key is the name that people steer a pool by.
    return [PoolView.model_validate(pool).model_copy(update={"name": name}) for name, pool in status.pools.items()]


def _stages(status: RunStatus) -> list[StageView]:
    left = seconds_left(status.stages)
    return [
        StageView(
            key=key,
            name=stage.name,
            unit=stage.unit,
            total=stage.total,
            done=stage.done,
            rate=None if stage.rate is None else round(stage.rate, 3),
            seconds_left=None if (seconds := left[key]) is None else round(seconds),
        )
        for key, stage in status.stages.items()
    ]


def _seconds_left(status: RunStatus, folder: RunFolder) -> float | None:
    """The mean of the finished iterations for each one to come, less the time the current one has taken."""
    reports = folder.reports()
    if not reports:
        return None
    each = sum(report["seconds"]["total"] for report in reports) / len(reports)
    starts = [stage.began for stage in status.stages.values() if stage.began is not None]
    spent = time.time() - min(starts) if starts and status.iteration > len(reports) else 0.0
    return round(max(0.0, each * (folder.config.iterations - len(reports)) - min(spent, each)))
