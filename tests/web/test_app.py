"""The API of a run: what it says, how it steers, its live stream, its one format of errors."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from sppo_ray.fakes import FakeRun
from sppo_ray.records import Judged
from sppo_ray.reporting import RunStatus, Stage
from sppo_ray.web.app import create_app
from sppo_ray.web.folder import RunFolder
from sppo_ray.web.protocol import Unavailable
from sppo_ray.web.views import run_view
from tests.run_folders import run_folder
from tests.web.serving import AUTHORIZED, TOKEN, sampled_folder, served


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    return sampled_folder(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run(ledger):
    return FakeRun(ledger)


@pytest.fixture
def client(run):
    return TestClient(create_app(run, TOKEN), headers=AUTHORIZED, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def still(ledger):
    """A client of a run that no test changes."""
    return TestClient(create_app(FakeRun(ledger), TOKEN), headers=AUTHORIZED, raise_server_exceptions=False)


def samples(client: Any, **query: Any) -> list[str]:
    return [row["prompt_id"] for row in client.get("/api/iterations/1/samples", params=query).json()["samples"]]


def test_the_run_tells_how_far_it_is(client):
    client.get("/api/run")
    run = client.get("/api/run").json()
    assert (run["run"], run["recipe"], run["iteration"], run["finished"], run["iterations"]) == (
        "run",
        "playground",
        2,
        1,
        3,
    )
    assert [(stage["key"], stage["done"], stage["total"]) for stage in run["stages"]] == [
        ("generate", 2, 40),
        ("judge", 0, 40),
        ("train", 0, 40),
    ]
    assert run["seconds_left"] == 2  # two iterations of a second each, less what has passed of the first
    assert [pool["name"] for pool in run["pools"]] == ["generators", "rankers"]
    assert run["step"]["loss"] == 2.0


def test_rates_count_from_when_the_stage_began(tmp_path, monkeypatch):
    monkeypatch.setattr("sppo_ray.reporting.status.time.time", lambda: 18.0)
    # 40 prompts in 8 s, 40 to go.
    stage = Stage("sampling", "prompts", total=100, done=60, first=20, began=10.0, last=17.0)
    run = run_view(RunStatus(stages={"generate": stage}), RunFolder(run_folder(tmp_path, ["yes", "no"])))
    assert (run.stages[0].rate, run.stages[0].seconds_left) == (5.0, 8)


def test_members_say_what_they_sample_now_and_when_they_start_again(client, run):
    pool = run._status.pools["generators"]
    failed = replace(pool.members[1], state="starting", failure="out of memory", retry_at=99.0)
    run._status.pools["generators"] = replace(pool, members=[pool.members[0], failed])
    generators, rankers = client.get("/api/pools").json()
    assert (generators["tokens_per_second"], generators["sequences"]) == (640.0, 80)
    assert (rankers["tokens_per_second"], rankers["sequences"]) == (None, None)
    first, second = generators["members"]
    assert (first["tokens_per_second"], first["sequences"], first["retry_at"]) == (320.0, 40, None)
    assert (second["failure"], second["retry_at"]) == ("out of memory", 99.0)


def test_samples_are_sorted_searched_and_paged(client):
    assert samples(client) == ["p1", "p0", "p2"]
    assert samples(client, order="ascending") == ["p2", "p0", "p1"]
    assert samples(client, sort="disagreement") == ["p0", "p2", "p1"]  # 0.5, 0.2 and 0 logits
    assert samples(client, sort="prompt", order="ascending") == ["p0", "p1", "p2"]
    assert samples(client, search="GOOD") == ["p0"]
    assert samples(client, search="STRASSE") == ["p2"]
    assert samples(client, search="prompt p", size=2) == ["p1", "p0"]
    assert samples(client, search="prompt p", size=2, page=2) == ["p2"]
    assert samples(client, page=9) == []


def test_a_sample_has_texts_marks_and_win_matrix(client):
    page = client.get("/api/iterations/1/samples", params={"size": 1}).json()
    (sample,) = page["samples"]
    assert page["total"] == 3
    assert sample["margin"] == pytest.approx(0.8)
    assert [(one["text"], one["mark"]) for one in sample["responses"]] == [("yes", "chosen"), ("no", "rejected")]
    assert sample["matrix"][0][1] == pytest.approx(0.982, abs=1e-3)  # sigmoid(2 - -2)


def test_samples_of_an_iteration_under_way_appear_block_by_block(client, run):
    assert client.get("/api/iterations/2/samples").json()["total"] == 0
    for block, total in enumerate([1, 3]):
        rows = run.ledger.judged(1, block)
        run.ledger.write(rows, Judged, run.ledger.block(Judged, 2, block))
        assert client.get("/api/iterations/2/samples").json()["total"] == total


def test_a_block_whose_prompts_were_all_set_aside_has_no_samples(tmp_path):
    ledger = sampled_folder(tmp_path / "run")
    for block in (2, 3):
        ledger.write([], Judged, ledger.block(Judged, 1, block))
    client = TestClient(create_app(FakeRun(ledger), TOKEN), headers=AUTHORIZED)
    assert samples(client) == ["p1", "p0", "p2"]
    assert samples(client, search="GOOD") == ["p0"]


def test_iterations_charts_and_snapshots_are_those_of_the_folder(client):
    (iteration,) = client.get("/api/iterations").json()
    assert iteration["report"]["win_rate_vs_base"] == 0.75
    assert client.get("/api/iterations/1").json() == iteration
    assert [chart["title"] for chart in client.get("/api/charts").json()] == ["Win rate", "Mean length, tokens", "Loss"]
    base, first = client.get("/api/snapshots").json()
    assert (base["name"], first["name"]) == ("iter-0", "iter-1")
    assert base["members"] == ["generator-0", "generator-1", "ranker-0", "ranker-1"] and first["members"] == []


def test_the_run_is_steered(client):
    assert client.post("/api/pause").json()["paused"]
    before = [stage["done"] for stage in client.get("/api/run").json()["stages"]]
    assert [stage["done"] for stage in client.get("/api/run").json()["stages"]] == before
    assert not client.post("/api/resume").json()["paused"]
    assert len(client.post("/api/pools/generators/target", json={"target": 4}).json()["members"]) == 4
    assert [pool["target"] for pool in client.get("/api/pools").json()] == [4, 2]
    assert client.post("/api/stop").json()["phase"] == "stopping"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/api/run", None, 405),
        ("GET", "/api/iterations/2", None, 404),
        ("GET", "/api/iterations/4/samples", None, 404),
        ("GET", "/api/iterations/0", None, 422),
        ("GET", "/api/iterations/one", None, 422),
        ("GET", "/api/iterations/" + "1" * 10_000, None, 422),
        ("GET", "/api/iterations/1/samples?sort=size", None, 422),
        ("GET", "/api/iterations/1/samples?search=" + "x" * 10_000, None, 422),
        ("GET", "/api/iterations/..%2F..%2Fconfig.yaml", None, 404),
        ("GET", "/..%2f..%2f..%2fetc/passwd", None, 404),
        ("GET", "/static/../../config.yaml", None, 404),
        ("POST", "/api/pools/trainers/target", {"target": 2}, 404),
        ("POST", "/api/pools/" + "x" * 10_000 + "/target", {"target": 2}, 422),
        ("POST", "/api/pools/generators/target", {"target": 9}, 422),
        ("POST", "/api/pools/generators/target", {"target": "2"}, 422),
        ("POST", "/api/pools/generators/target", {"target": True}, 422),
        ("POST", "/api/pools/generators/target", {"target": 2, "now": 1}, 422),
        ("POST", "/api/pools/generators/target", b"{", 422),
        ("POST", "/api/pools/generators/target", b"[" * 100_000, 400),
        ("POST", "/v1/chat/completions", {"model": "gpt", "messages": [{"role": "user", "content": "hi"}]}, 404),
        ("POST", "/v1/chat/completions", {"model": "policy", "messages": [{"role": "user", "content": "\ud800"}]}, 400),
        ("POST", "/v1/chat/completions", b"x" * ((1 << 20) + 1), 413),
    ],
)
def test_every_error_has_one_format(still, method, path, body, status):
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    answer = still.request(method, path, content=content, headers={"Content-Type": "application/json"})
    problem = answer.json()
    assert answer.status_code == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "error"}
    assert problem["error"]["message"] == problem["detail"] and 0 < len(problem["detail"]) <= 1000


class LostRun(FakeRun):
    """Its coordinator restarts; then something breaks."""

    failure: Exception = Unavailable("the coordinator restarts")

    async def status(self) -> Any:
        raise self.failure


def test_a_run_that_does_not_answer_is_said_so(ledger):
    run = LostRun(ledger)
    client = TestClient(create_app(run, TOKEN), headers=AUTHORIZED, raise_server_exceptions=False)
    answer = client.get("/api/run")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["detail"] == "the coordinator restarts"
    run.failure = ValueError("of the inside")
    assert client.get("/api/run").status_code == 500 and "inside" not in client.get("/api/run").text
    assert client.get("/healthz").json() == {"status": "ok"}


def events(client: httpx.Client) -> Iterator[dict[str, Any]]:
    with client.stream("GET", "/api/events", timeout=20) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield from (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))


def test_listeners_get_live_progress(run):
    with served(run) as url, httpx.Client(base_url=url, headers=AUTHORIZED) as client:
        live = events(client)
        first, second = next(live), next(live)
        assert second["stages"][0]["done"] == first["stages"][0]["done"] + 1
        client.post("/api/pause")
        assert next(event for event in live if event["paused"])["phase"] == "sampling, judging, training"
