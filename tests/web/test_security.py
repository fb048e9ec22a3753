"""Nothing but the health check answers without the token; sizes and rates have limits; a page of elsewhere can do nothing."""

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse

from sppo_ray.fakes import FakeRun
from sppo_ray.web import key, security
from sppo_ray.web.app import create_app
from sppo_ray.web.key import Key
from sppo_ray.web.security import Guard
from tests.web.serving import AUTHORIZED, TOKEN, sampled_folder

BROWSER = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return create_app(FakeRun(sampled_folder(tmp_path_factory.mktemp("runs") / "run")), TOKEN)


@pytest.fixture
def client(app, request):
    return TestClient(app, client=(request.node.name, 1))  # an address of its own: limits are by address


def operations(app: Any) -> list[tuple[str, str]]:
    paths = {path: list(methods) for path, methods in app.openapi()["paths"].items()}
    paths |= {path: ["get"] for path in ("/", "/page.js", "/report.css", "/openapi.json", "/nowhere", "/docs")}
    del paths["/healthz"]
    return [
        (method, path.format(iteration=1, name="generators", model="policy") if "{" in path else path)
        for path, methods in paths.items()
        for method in methods
    ]


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x"])
def test_every_endpoint_asks_for_the_token(app, client, header):
    headers = {} if header is None else {"Authorization": header}
    asked = operations(app)
    assert len(asked) > 15
    for method, path in asked:
        answer = client.request(method, path, headers=headers)
        if answer.status_code == 429:  # so many wrong tokens: refused all the same
            continue
        assert answer.status_code == answer.json()["status"] == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_page_logs_in_with_the_token(client):
    form = client.get("/", headers=BROWSER)
    assert form.status_code == 401 and 'name="token"' in form.text and "page.js" not in form.text
    wrong = client.post("/login", data={"token": "wrong"}, headers=BROWSER)
    assert wrong.status_code == 401 and "not this run" in wrong.text and "set-cookie" not in wrong.headers

    right = client.post("/login", data={"token": TOKEN}, headers=BROWSER, follow_redirects=False)
    cookie = right.headers["set-cookie"]
    assert right.status_code == 303 and right.headers["location"] == "/"
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    assert "page.js" in client.get("/", headers=BROWSER).text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 401),  # another port of this host
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Sec-Fetch-Site": "none"}, 401),
        ({"Origin": "http://testserver"}, 200),
        ({"Origin": "http://testserver:81"}, 401),
        ({"Origin": "null"}, 401),
        ({}, 401),
    ],
)
def test_the_cookie_steers_from_the_page_alone(client, headers, status):
    client.cookies = {Key(TOKEN).cookie: Key(TOKEN).session}
    assert client.post("/api/resume", headers=headers).status_code == status
    assert client.get("/api/run").status_code == 200
    assert client.get("/api/run", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 401


def test_every_answer_is_strict_and_closed_to_other_origins(client):
    for path, headers in (
        ("/healthz", {}),
        ("/", AUTHORIZED),
        ("/api/run", {}),
        ("/api/run", AUTHORIZED),
        ("/", BROWSER),
    ):
        answer = client.get(path, headers={"Origin": "https://elsewhere.example", **headers})
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert client.options("/api/run", headers={**AUTHORIZED, "Origin": "https://elsewhere.example"}).status_code == 405


def test_a_body_of_unknown_length_is_cut_off(client):
    read = []

    def body():
        for number in range(1000):
            read.append(number)
            yield b"x" * (1 << 16)

    answer = client.post("/api/pause", content=body(), headers=AUTHORIZED)
    assert answer.status_code == 413


def test_a_body_that_does_not_come_is_given_up(monkeypatch):
    monkeypatch.setattr(security, "BODY_SECONDS", 0.1)
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/pause",
        "headers": [(b"authorization", f"Bearer {TOKEN}".encode())],
    }
    asyncio.run(Guard(PlainTextResponse("never"), Key(TOKEN))(scope | {"query_string": b""}, never, send))
    assert sent[0]["status"] == 408


def test_rates_are_limited_more_so_without_a_token(monkeypatch):
    monkeypatch.setattr(security.time, "monotonic", lambda: 0.0)
    client = TestClient(Guard(PlainTextResponse("fine"), Key(TOKEN), rate=0.001, burst=200))
    refused = [client.get("/api/run").status_code for _ in range(120)]
    assert refused.count(401) == 100 and refused[-1] == 429
    allowed = [client.get("/api/run", headers=AUTHORIZED) for _ in range(100)]
    assert [answer.status_code for answer in allowed] == [200] * 80 + [429] * 20
    assert allowed[-1].headers["retry-after"] == "1"


def test_the_key_is_compared_in_constant_time(monkeypatch):
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(key.secrets, "compare_digest", lambda *pair: compared.append(pair) or False)
    assert not Key(TOKEN).opens(TOKEN)
    assert compared == [(TOKEN.encode(), TOKEN.encode())]
