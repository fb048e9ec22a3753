"""The HTTP API of a run: `/api`.

In: requests for its state, its samples, and to steer it. Out: the views of `views.py`, and their live stream.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sppo_ray.web.events import Broadcast, TooManyListeners
from sppo_ray.web.folder import Order, RunFolder, Sort
from sppo_ray.web.problems import describe
from sppo_ray.web.protocol import Run, Unavailable
from sppo_ray.web.views import (
    ChartView,
    IterationView,
    PoolView,
    RunView,
    SamplesView,
    SampleView,
    SnapshotView,
    pool_views,
    run_view,
)

ERRORS = describe(401, 408, 413, 429, 503)
Iteration = Annotated[int, Path(ge=1, le=1_000_000)]
Name = Annotated[str, Path(max_length=64)]


class Target(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    target: Annotated[int, Field(ge=0, le=100_000, description="number of members of the pool")]


def api_routes(run: Run, folder: RunFolder) -> APIRouter:
    router = APIRouter(prefix="/api", responses=ERRORS)
    searching = asyncio.Lock()  # one search at a time: each reads an iteration's texts

    async def view() -> RunView:
        return await asyncio.to_thread(run_view, await run.status(), folder)

    async def event() -> bytes:
        try:
            return f"event: status\ndata: {(await view()).model_dump_json()}\n\n".encode()
        except Unavailable as error:
            return f"event: lost\ndata: {str(error).splitlines()[0]}\n\n".encode()

    broadcast = Broadcast(event)

    @router.get("/run", summary="The run: phase, progress and rates of its stages, time left")
    async def get_run() -> RunView:
        return await view()

    @router.get("/iterations", summary="The finished iterations with their reports")
    def get_iterations() -> list[IterationView]:
        return [IterationView(iteration=report["iteration"], report=report) for report in folder.reports()]

    @router.get("/iterations/{iteration}", summary="A finished iteration's report", responses=describe(404, 422))
    def get_iteration(iteration: Iteration) -> IterationView:
        reports = folder.reports()
        if iteration > len(reports):
            raise HTTPException(404, f"iteration {iteration} is not finished")
        return IterationView(iteration=iteration, report=reports[iteration - 1])

    @router.get(
        "/iterations/{iteration}/samples",
        summary="Pages of what the policy wrote and the judge preferred",
        responses=describe(404, 422),
    )
    async def get_samples(
        iteration: Iteration,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        size: Annotated[int, Query(ge=1, le=50)] = 20,
        sort: Sort = "margin",
        order: Order = "descending",
        search: Annotated[str, Query(max_length=200, description="words of prompt or responses")] = "",
    ) -> SamplesView:
        if iteration > folder.config.iterations:
            raise HTTPException(404, f"the run has {folder.config.iterations} iterations")
        async with searching:
            total, rows = await asyncio.to_thread(folder.samples, iteration, sort, order, search, page, size)
        samples = [SampleView.model_validate(row) for row in rows]
        return SamplesView(iteration=iteration, total=total, page=page, size=size, samples=samples)

    @router.get("/charts", summary="Win rate, length and loss so far, as line charts")
    def get_charts() -> list[ChartView]:
        return [ChartView.model_validate(asdict(chart)) for chart in folder.charts()]

    @router.get("/pools", summary="The pools of engines and their members")
    async def get_pools() -> list[PoolView]:
        return pool_views(await run.status())

    @router.get("/snapshots", summary="The base model and the published policies, and who holds them")
    async def get_snapshots() -> list[SnapshotView]:
        status = await run.status()
        found = await asyncio.to_thread(folder.snapshots)
        members = [member for pool in status.pools.values() for member in pool.members]
        return [
            SnapshotView(
                name=one.name,
                iteration=one.iteration,
                uri=one.uri,
                digest=one.digest,
                members=[member.name for member in members if member.snapshot == one.name],
            )
            for one in found
        ]

    @router.post("/pause", summary="Start no new work; what is in flight is finished")
    async def pause() -> RunView:
        await run.pause()
        return await view()

    @router.post("/resume", summary="Continue after a pause")
    async def resume() -> RunView:
        await run.resume()
        return await view()

    @router.post("/stop", summary="Write a checkpoint and end the run; the same command continues it")
    async def stop() -> RunView:
        await run.stop()
        return await view()

    @router.post(
        "/pools/{name}/target", summary="Set the target number of members of a pool", responses=describe(400, 404, 422)
    )
    async def scale(name: Name, body: Target) -> PoolView:
        if name not in (await run.status()).pools:
            raise HTTPException(404, f"there is no pool {name}: there are generators and rankers")
        await run.scale(name, body.target)
        return next(pool for pool in pool_views(await run.status()) if pool.name == name)

    @router.get(
        "/events",
        summary="Live progress, as server-sent events: `status` holds a run as of /api/run, `lost` why there is none",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def events() -> StreamingResponse:
        try:
            stream: AsyncIterator[bytes] = broadcast.listen()
        except TooManyListeners:
            raise HTTPException(503, "too many listeners", {"Retry-After": "10"}) from None
        return StreamingResponse(stream, media_type="text/event-stream")

    return router
