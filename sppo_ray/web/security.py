"""Who may send requests, how often and how large: all checks before a request reaches the application.

In: a request. Out: the application's answer, or a problem of status 401, 408, 413 or 429; every answer has strict headers.
"""

import asyncio
import time
from collections import OrderedDict

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sppo_ray.web.key import Key
from sppo_ray.web.login import login_page
from sppo_ray.web.problems import problem

MAX_BODY = 1 << 20  # bytes
BODY_SECONDS = 20
OPEN = ("/healthz", "/login")  # the only paths that need no token
ADDRESSES = 10_000  # remembered by a limit
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Limit:
    """A token bucket per address: `rate` requests per second, after a burst."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (level, when)

    def take(self, address: str) -> bool:
        now = time.monotonic()
        level, then = self._levels.pop(address, (float(self._burst), now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= 1
        self._levels[address] = (level - allowed, now)
        if len(self._levels) > ADDRESSES:
            self._levels.popitem(last=False)
        return allowed


class Guard:
    """rate, burst: requests per second from one address. Those without a valid token have a far smaller limit."""

    def __init__(self, app: ASGIApp, key: Key, rate: float = 200, burst: int = 4000) -> None:
        self._app = app
        self._key = key
        self._requests, self._failures = Limit(rate, burst), Limit(2, 100)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        request = Request(scope)
        refusal = self._refusal(request)
        body = b""
        if refusal is None:
            try:
                body = await asyncio.wait_for(_read(request, receive), BODY_SECONDS)
            except TimeoutError:
                refusal = problem(408, f"the body did not arrive within {BODY_SECONDS} s", {"Connection": "close"})
            except OverflowError:
                refusal = problem(413, f"a body has at most {MAX_BODY} bytes", {"Connection": "close"})
        if refusal is not None:
            await refusal(scope, receive, send_strictly)
            return
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        await self._app(scope, replay, send_strictly)

    def _refusal(self, request: Request) -> Response | None:
        address = request.client.host if request.client else ""
        if not self._requests.take(address):
            return problem(429, "too many requests: slow down", {"Retry-After": "1"})
        if request.url.path == "/healthz" or self._key.admits(request):
            return None
        if not self._failures.take(address):
            return problem(429, "too many requests without a valid token", {"Retry-After": "10"})
        if request.url.path in OPEN:
            return None
        if "text/html" in request.headers.get("accept", ""):
            return login_page(401)
        detail = "a token is needed: `Authorization: Bearer TOKEN`; the run's log names the file that holds it"
        return problem(401, detail, {"WWW-Authenticate": "Bearer"})


async def _read(request: Request, receive: Receive) -> bytes:
    """The whole body. Raises `OverflowError` as soon as it is too long."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > MAX_BODY:
        raise OverflowError
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise OverflowError
    return bytes(body)
