"""What a training does around its workers."""

import time
from types import SimpleNamespace

import pytest
from ray.util.placement_group import placement_group, placement_group_table

from actors.run import trainer


def test_devices_of_dead_trainers_of_this_job_are_released_wherever_ray_address_points(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    group = placement_group([{"CPU": 0.1}])
    assert group.wait(30)
    with monkeypatch.context() as other:
        other.setattr(trainer.ray, "get_runtime_context", lambda: SimpleNamespace(get_job_id=lambda: "ffffffff"))
        trainer._release_devices()
    assert placement_group_table(group)["state"] == "CREATED"
    trainer._release_devices()
    ends = time.monotonic() + 30
    while placement_group_table(group)["state"] != "REMOVED":
        assert time.monotonic() < ends
        time.sleep(0.05)
