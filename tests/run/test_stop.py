"""A stop waits for what the trainer is writing, however long that takes."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.run import coordinator
from actors.run.board import Board
from actors.run.desired import DesiredState
from sppo_ray.config import load_config
from sppo_ray.errors import RunStopped
from sppo_ray.run_folder import Ledger


def test_a_stop_ends_the_run_when_the_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator, "STOP_SECONDS", 0.01)
    kind = coordinator.Coordinator.__ray_metadata__.modified_class

    async def run() -> None:
        one: Any = kind.__new__(kind)
        Board.__init__(one)
        one.__dict__ |= {"_config": load_config(), "_ledger": Ledger(tmp_path), "_pools": {}, "_serving": None}
        one._desired, one._end = DesiredState(paused=True), asyncio.get_running_loop().create_future()
        await one.saving(True)
        await one.stop()
        await asyncio.sleep(0.1)
        assert not one._end.done() and await one.may_step(1) is False  # the trainer ends, a pause does not keep it
        await one.saving(False)
        with pytest.raises(RunStopped):
            await one._end

    asyncio.run(run())
