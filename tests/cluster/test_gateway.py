"""The gateway on a real cluster with fake engines: it answers, comes back after a kill, and its metrics are those Grafana reads."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import psutil
import pytest
import ray

from actors.engines import Pool, PoolState, generator, ranker
from actors.service.gateway import reserve_port, start_gateway
from actors.service.metrics import DASHBOARD, provision_dashboard
from sppo_ray.config import load_config
from sppo_ray.errors import ConfigError
from sppo_ray.fakes import FakeGenerator, FakeJudge
from sppo_ray.playground import Playground
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.reporting import RunStatus, new_stages
from sppo_ray.run_folder import Ledger
from tests.run_folders import run_folder

pytestmark = pytest.mark.usefixtures("cluster")

BASE = Snapshot(0, "base")
HELLO = [{"role": "user", "content": "Hello"}]
STEP = {
    "step": 1,
    "loss": 2.5,
    "gradient_norm": 3.0,
    "learning_rate": 1e-4,
    "chosen_log_ratio": 0.5,
    "rejected_log_ratio": -0.5,
}


@ray.remote(num_cpus=0)
class FakeCoordinator:
    """What the gateway calls of a coordinator."""

    def __init__(self, pools: dict[str, Any]) -> None:
        self._pools = pools
        self._status = RunStatus(2, 3, "sampling, judging, training", stages=new_stages(40), step=STEP)

    async def status(self) -> RunStatus:
        for stage in self._status.stages.values():
            stage.add(1)
        return self._status

    async def pause(self) -> None:
        self._status.paused = True

    async def scale(self, pool: str, target: int) -> None:
        await self._pools[pool].desire.remote(PoolState(BASE if pool == "generators" else None, target=target))


def until(holds: Any, seconds: float = 60) -> Any:
    """What a function gives, as soon as that is true; a service that is not there yet is none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if found := holds():
                return found
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, playground: Playground) -> Iterator[SimpleNamespace]:
    """A gateway before a fake coordinator and pools of fake engines."""
    ledger = run_folder(tmp_path_factory.mktemp("runs") / "gateway", ["Good day", "Bad day"])
    overrides = ["generators.max=2", "generators.cpus=0.1", "rankers.cpus=0.1", f"policy.model={playground.policy}"]
    config = load_config(overrides=overrides)
    start = partial(generator.start, config, partial(FakeGenerator, BASE, seconds=0.01), ledger)
    generators = Pool.remote("generator", start, config.generators)
    rankers = Pool.remote("ranker", partial(ranker.start, config, FakeJudge, ledger), config.rankers)
    ray.get([generators.open.remote(BASE), rankers.open.remote()])
    coordinator = FakeCoordinator.remote({"generators": generators, "rankers": rankers})
    gateway, address = start_gateway(config, ledger, reserve_port(config), coordinator, generators, rankers)
    headers = {"Authorization": f"Bearer {address.token}"}
    with httpx.Client(base_url=address.url, headers=headers, timeout=30) as client:
        until(lambda: client.get("/healthz").is_success)
        yield SimpleNamespace(
            ledger=ledger, config=config, generators=generators, gateway=gateway, address=address, client=client
        )
    for actor in (gateway, coordinator, generators, rankers):
        ray.kill(actor)


def test_it_shows_and_steers_the_run(run: SimpleNamespace) -> None:
    seen = run.client.get("/api/run").json()
    assert seen["iteration"] == 2 and seen["step"]["loss"] == 2.5
    assert [pool["members"][0]["state"] for pool in seen["pools"]] == ["up", "up"]
    scaled = run.client.post("/api/pools/generators/target", json={"target": 1}).json()
    assert scaled["target"] == 1
    refused = run.client.post("/api/pools/generators/target", json={"target": 3})
    assert refused.status_code == 422 and "not between min = 1 and max = 2" in refused.json()["detail"]
    assert run.client.post("/api/pause").json()["paused"]


def test_the_engines_answer_through_the_openai_client(run: SimpleNamespace) -> None:
    client = openai.OpenAI(base_url=f"{run.address.url}/v1", api_key=run.address.token, max_retries=0)
    whole = client.chat.completions.create(model="policy", messages=HELLO, max_tokens=3)
    assert whole.choices[0].message.content == "iter-0 " * 3
    pieces = list(client.chat.completions.create(model="policy", messages=HELLO, max_tokens=3, stream=True))
    assert [piece.choices[0].delta.content for piece in pieces] == ["iter-0 "] * 3
    best = client.chat.completions.create(model="policy-best-of-4", messages=HELLO, max_tokens=2)
    assert best.choices[0].message.content == "iter-0 " * 2


def test_engines_that_sleep_are_a_503_at_once(run: SimpleNamespace) -> None:
    ray.get(run.generators.desire.remote(PoolState(BASE, asleep=True)))
    ray.get(run.generators.settled.remote())
    answer = run.client.post("/v1/chat/completions", json={"model": "policy", "messages": HELLO})
    ray.get(run.generators.open.remote(BASE))
    assert answer.status_code == 503 and answer.headers["retry-after"] == "5"
    assert "sleeps while the policy trains" in answer.json()["error"]["message"]


def test_a_killed_gateway_comes_back_with_its_token_and_its_port(run: SimpleNamespace) -> None:
    first = listener(run.address.url)
    os.kill(first, signal.SIGKILL)
    until(lambda: run.client.get("/api/run").is_success)
    assert listener(run.address.url) != first


def listener(url: str) -> int:
    """The process that serves an address."""
    port = int(url.rpartition(":")[2])
    found = psutil.net_connections("tcp")
    return next(one.pid for one in found if one.status == psutil.CONN_LISTEN and one.laddr.port == port)


def test_a_port_that_is_taken_is_the_users_to_change(run: SimpleNamespace) -> None:
    port = run.address.url.rpartition(":")[2]
    with pytest.raises(ConfigError, match=f"gateway.port={port}: Address already in use"):
        reserve_port(load_config(overrides=[f"gateway.port={port}"]))


def test_the_nodes_metrics_have_all_that_the_dashboard_reads(run: SimpleNamespace, tmp_path: Path) -> None:
    path = Ledger(tmp_path).block(Candidates, 1, 0)
    ray.get(run.generators.call.remote("generate", path, [Prompt("p", "p", [1])], 2, "iter-0"))
    dashboard = json.loads(resources.files("sppo_ray.reporting").joinpath("grafana", DASHBOARD).read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = set(re.findall(r"ray_sppo_\w+", " ".join(expressions)))
    node = ray.nodes()[0]
    endpoint = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    assert len(used) > 25

    def missing() -> set[str]:
        return used - {line.partition("{")[0] for line in httpx.get(endpoint).text.splitlines()}

    until(lambda: not missing() or time.sleep(1))
    lines = httpx.get(endpoint).text.splitlines()
    loss = [line for line in lines if line.startswith("ray_sppo_loss{") and 'run="gateway"' in line]
    assert [float(line.rpartition(" ")[2]) for line in loss] == [2.5]


def test_rays_provisioning_gets_the_dashboard() -> None:
    path = until(provision_dashboard)
    assert json.loads(path.read_text())["uid"] == "sppoDashboard"
    provisioning = path.parent.parent / "provisioning" / "dashboards" / "default.yml"
    assert str(path.parent) in provisioning.read_text()
