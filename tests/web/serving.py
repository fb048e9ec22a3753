"""The service of a fake run over real HTTP, for tests."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from fastapi import FastAPI

from sppo_ray.fakes import FakeRun
from sppo_ray.records import Judged
from sppo_ray.run_folder import Ledger
from sppo_ray.web.app import create_app
from sppo_ray.web.server import bind, http_server
from tests.run_folders import candidates, judged, run_folder

TOKEN = "the-token-of-this-test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
HOSTILE = "<img src=x onerror=alert(1)>"


def sampled_folder(root: Path) -> Ledger:
    """`run_folder`, whose prompt has margin 0.32, and a second block with margins 0.8 and 0.1."""
    ledger = run_folder(root, ["Good day", HOSTILE])
    rows = [
        judged(candidates(["yes", "no"], "p1"), [[0.0, 2.0], [-2.0, 0.0]], [0.9, 0.1]),
        judged(candidates(["Straße", "road"], "p2"), [[0.0, 0.1], [0.1, 0.0]], [0.55, 0.45]),
    ]
    ledger.write(rows, Judged, ledger.block(Judged, 1, 1))
    return ledger


def served(run: FakeRun, chats: int = 16, port: int = 0) -> AbstractContextManager[str]:
    """The address of the run's service."""
    return listening(create_app(run, TOKEN, chats), port)


@contextmanager
def listening(app: FastAPI, port: int = 0) -> Iterator[str]:
    """The address of an application."""
    server, bound = http_server(app), bind("127.0.0.1", port)
    bound.listen()  # who comes before the thread is at work waits, and is not refused
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
