"""Time that passes a hundred times faster, and Ray's `kill` on stub actors."""

import pytest

from actors.engines import members
from tests.engines.stubs import World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "TEND_SECONDS", 0.01)
    monkeypatch.setattr(members, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(members, "MOST_RETRY_SECONDS", 0.04)
    monkeypatch.setattr(members.ray, "kill", World.kill)
