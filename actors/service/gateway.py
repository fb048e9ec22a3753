"""The service of a run as an actor beside the coordinator: HTTP API, page and chat, and the run's metrics.

In: requests of people. Out: calls to coordinator and pools. The run does not depend on it; Ray restarts it with its state.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncGenerator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayTaskError

from actors.cluster.placement import here
from actors.service.metrics import RunMetrics
from sppo_ray.config import Config
from sppo_ray.errors import ConfigError, EngineFailed, JudgeUnavailable, PoolAsleep, SppoError
from sppo_ray.evaluation import best_of
from sppo_ray.records import ChatRequest, Message, TokenDelta
from sppo_ray.reporting import RunStatus
from sppo_ray.run_folder import Ledger
from sppo_ray.web.address import Address
from sppo_ray.web.app import create_app
from sppo_ray.web.protocol import Unavailable
from sppo_ray.web.server import bind, http_server

if TYPE_CHECKING:
    from sppo_ray.prompts.chat_template import ChatEncoder

T = TypeVar("T")
PATIENCE_SECONDS = 15.0  # for coordinator or pool, which may be restarting, to answer
TRIES, RETRY_SECONDS = 30, 0.5  # to find a member that serves
METRICS_SECONDS = 5.0  # a gauge that is not set again vanishes after about 20


@dataclass
class ClusterRun:
    """The run behind the service (`sppo_ray.web.protocol.Run`)."""

    config: Config
    ledger: Ledger
    coordinator: Any
    pools: dict[str, Any]
    _encoder: "ChatEncoder | None" = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def status(self) -> RunStatus:
        status: RunStatus = await _asked(self.coordinator.status.remote())
        # The coordinator reads the pools once per second, too late for a person who has just changed one.
        names = list(self.pools)
        status.pools = dict(
            zip(names, await asyncio.gather(*(_asked(self.pools[name].status.remote()) for name in names)), strict=True)
        )
        return status

    async def pause(self) -> None:
        await _asked(self.coordinator.pause.remote())

    async def resume(self) -> None:
        await _asked(self.coordinator.resume.remote())

    async def stop(self) -> None:
        await _asked(self.coordinator.stop.remote())

    async def scale(self, pool: str, target: int) -> None:
        await _asked(self.coordinator.scale.remote(pool, target))

    async def encode(self, messages: Sequence[Message]) -> list[int]:
        async with self._loading:
            if self._encoder is None:  # loaded for the first request: until then the run's own processes start
                self._encoder = await asyncio.to_thread(_load_encoder, self.config)
        return self._encoder.ids(messages)

    async def chat(self, ask: ChatRequest) -> AsyncGenerator[TokenDelta]:
        begun = False
        for _ in range(TRIES):
            name, member = uuid.uuid4().hex, await self._member("generators")
            try:
                async for moment in member.chat.remote(ask, name):
                    for piece in await moment:
                        begun = True
                        yield piece
                return
            except (RayActorError, EngineFailed):
                if begun:
                    break
            finally:
                member.abort.remote(name)
            await asyncio.sleep(RETRY_SECONDS)  # then another member, or this one after its restart
        raise Unavailable("the engine died while it answered")

    async def best(self, prompt: str, answers: Sequence[str]) -> int:
        # Not through the pool's queue, which stops while the run is paused.
        member = await self._member("rankers")
        try:
            logits = await _asked(member.compare.remote([prompt], [list(answers)]))
        except JudgeUnavailable as error:
            raise Unavailable(str(error)) from None
        return int(best_of(logits, self.config.judge)[0])

    async def _member(self, pool: str) -> Any:
        """A member that serves. Waits while it loads the next policy, not while it sleeps."""
        for _ in range(TRIES):
            try:
                _, member = await _asked(self.pools[pool].member.remote())
                return member
            except PoolAsleep as error:
                refusal = error
            status = await _asked(self.pools[pool].status.remote())
            if any(member.state == "asleep" for member in status.members):
                break
            await asyncio.sleep(RETRY_SECONDS)
        raise Unavailable(f"{refusal}: it is starting, or sleeps while the policy trains")


def _load_encoder(config: Config) -> "ChatEncoder":
    from sppo_ray.prompts.chat_template import ChatEncoder, load_tokenizer  # Transformers

    policy = config.policy
    return ChatEncoder(load_tokenizer(policy.model, policy.trust_remote_code), policy.chat_template_kwargs)


async def _asked(call: Awaitable[T]) -> T:
    """The answer of an actor call; raises the actor's own errors unwrapped."""
    try:
        return await asyncio.wait_for(call, PATIENCE_SECONDS)
    except RayTaskError as error:
        if isinstance(error.cause, SppoError):
            raise error.cause from None
        raise
    except (RayActorError, TimeoutError):
        raise Unavailable("the run does not answer at the moment: a part of it is restarting") from None


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Gateway:
    """token: never logged; Ray does not show constructor arguments."""

    def __init__(self, config: Config, ledger: Ledger, token: str, port: int) -> None:
        self._config, self._ledger = config, ledger
        self._token, self._port = token, port
        self._server: Any = None
        self._closed = asyncio.Event()

    def __repr__(self) -> str:
        return f"Gateway({self._ledger.root.name})"

    async def serve(self, coordinator: Any, generators: Any, rankers: Any) -> None:
        """Answer requests until `close`. Ray repeats this call after it has restarted a killed actor."""
        run = ClusterRun(self._config, self._ledger, coordinator, {"generators": generators, "rankers": rankers})
        settings = self._config.gateway
        self._server = http_server(create_app(run, self._token, settings.chats))
        serving = asyncio.ensure_future(self._server.serve(sockets=[bind(settings.host, self._port)]))
        publishing = asyncio.ensure_future(_publish(RunMetrics(self._ledger), run))
        done, _ = await asyncio.wait({serving, publishing}, return_when=asyncio.FIRST_COMPLETED)
        publishing.cancel()
        self._closed.set()
        for ended in done:
            ended.result()  # raises what went wrong, for Ray to show

    async def answering(self) -> None:
        """Return as soon as the service accepts requests."""
        while self._server is None or not self._server.started:
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Stop answering, and let `serve` return."""
        if self._server is not None:
            self._server.should_exit = True
            await self._closed.wait()


async def _publish(metrics: RunMetrics, run: ClusterRun) -> None:
    while True:
        try:
            status = await run.status()
        except Unavailable:
            pass  # the gauges vanish, as they should without a status
        else:
            await asyncio.to_thread(metrics.show, status)
        await asyncio.sleep(METRICS_SECONDS)


def reserve_port(config: Config) -> int:
    """The port of the service on this machine. Raises `ConfigError` if it is not available."""
    try:
        with bind(config.gateway.host, config.gateway.port) as bound:
            return int(bound.getsockname()[1])
    except OSError as error:
        raise ConfigError(
            f"gateway.host={config.gateway.host}, gateway.port={config.gateway.port}: {error.strerror}; "
            "choose another port, or 0 for any that is free"
        ) from None


def start_gateway(config: Config, ledger: Ledger, port: int, *run: Any) -> tuple[Any, Address]:
    """Start the gateway of a run (coordinator, generators, rankers) on this node; returns it and its address."""
    token = secrets.token_urlsafe(32)
    gateway = Gateway.options(label_selector=here()).remote(config, ledger, token, port)
    gateway.serve.remote(*run)
    host = config.gateway.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}".replace("0.0.0.0", "127.0.0.1").replace(
        "[::]", "[::1]"
    )
    return gateway, Address(str(ledger.root), url, token)
