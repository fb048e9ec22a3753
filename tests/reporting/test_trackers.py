"""Trackers get a run's numbers without a network; one that is not installed is named before the run starts."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
import time

import mlflow
import pytest
from tensorboardX.proto.event_pb2 import Event

from sppo_ray.config import Config, load_config
from sppo_ray.errors import ConfigError
from sppo_ray.reporting import trackers
from sppo_ray.reporting.trackers import Trackers, check_trackers

NUMBERS = {"train/loss": 2.5, "train/step": 3, "held_out/win_rate": None, "phase": "training"}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A tracker's first step imports its library, which takes long on a busy machine."""
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 100.0)


def config_of(name: str) -> Config:
    return load_config(overrides=[f"trackers=[{name}]"])


def test_tensorboard_is_the_default_and_writes_into_the_run_folder(tmp_path):
    found = Trackers(load_config(), tmp_path)
    found.log(7, NUMBERS)
    found.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    assert scalars(file.read_bytes()) == {(7, "train/loss"): 2.5, (7, "train/step"): 3.0}


def scalars(data: bytes) -> dict[tuple[int, str], float]:
    """Of an event file: records of length (8 bytes), its checksum (4), an event, its checksum (4)."""
    found = {}
    while data:
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        found |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
        data = data[16 + length :]
    return found


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "no_such_package")
    with pytest.raises(ConfigError, match="wandb, which is not installed: pip install no_such_package"):
        check_trackers(["tensorboard", "wandb"])


def test_wandb_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = Trackers(config_of("wandb"), tmp_path / "run")
    found.log(7, NUMBERS)
    found.close()
    (file,) = tmp_path.rglob("run-*.wandb")
    deadline = time.monotonic() + 30  # a process of its own writes the file
    while b"train/loss" not in file.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert b"train/loss" in file.read_bytes()


def test_mlflow_in_a_local_database(tmp_path, monkeypatch):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    found = Trackers(config_of("mlflow"), tmp_path / "run")
    found.log(7, NUMBERS)
    found.close()
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("sppo-ray").experiment_id])
    assert run.info.run_name == "run" and run.info.status == "FINISHED"
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "train/loss")] == [(7, 2.5)]
    assert run.data.params["training.loss"] == "sppo"


def test_trackio_in_a_local_folder(tmp_path):
    """In a process of its own, as one of a Slurm job has it: Trackio reads its folder when it is imported."""
    script = (
        "import sys; from pathlib import Path; from sppo_ray.config import load_config; "
        "from sppo_ray.reporting import trackers; trackers.CLOSE_SECONDS = 100.0; "
        "found = trackers.Trackers(load_config(overrides=['trackers=[trackio]']), Path(sys.argv[1])); "
        "found.log(7, {'train/loss': 2.5}); found.close()"
    )
    job = {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "PMI_SIZE": "2"}  # nobody else comes
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path)} | job
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "run")], env=environment, check=True, timeout=120)
    (file,) = tmp_path.rglob("*.db")
    with sqlite3.connect(file) as database:
        ((step, metrics),) = database.execute("select step, metrics from metrics").fetchall()
    assert step == 7 and json.loads(metrics)["train/loss"] == 2.5


class Stuck:
    """A tracker whose server is out of reach: it answers when the test lets it."""

    def __init__(self) -> None:
        self.free, self.seen = threading.Event(), list[int]()

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.free.wait()
        self.seen.append(step)

    def finish(self) -> None:
        self.seen.append(-1)


def test_a_tracker_that_is_out_of_reach_never_keeps_the_run_waiting(tmp_path, monkeypatch, caplog):
    stuck = Stuck()
    monkeypatch.setattr(trackers, "MOST_WAITING", 3)
    monkeypatch.setattr(trackers, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(trackers, "_start", lambda *_: stuck)
    found = Trackers(config_of("wandb"), tmp_path)
    for step in range(20):  # the first hangs, three wait
        found.log(step, NUMBERS)
        while step == 0 and found._all[0]._waiting.qsize():
            time.sleep(0.001)
    found.close()
    assert stuck.seen == []
    assert [record.message for record in caplog.records] == [
        "tracker wandb does not take the numbers of the run, which goes on without it: 3 steps wait for it",
        "tracker wandb: 20 steps were not logged; training.jsonl has them all",
    ]
    stuck.free.set()


def test_a_slow_tracker_gets_what_waits_when_the_run_ends(tmp_path, monkeypatch):
    stuck = Stuck()
    monkeypatch.setattr(trackers, "_start", lambda *_: stuck)
    found = Trackers(config_of("wandb"), tmp_path)
    for step in range(5):
        found.log(step, NUMBERS)
    stuck.free.set()
    found.close()
    assert stuck.seen == [0, 1, 2, 3, 4, -1]


def test_a_tracker_that_raises_is_named_once_and_tried_again(tmp_path, monkeypatch, caplog):
    tries, taken = [], Stuck()
    taken.free.set()

    def start(*_: object) -> Stuck:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("no route to host")
        return taken

    monkeypatch.setattr(trackers, "_start", start)
    found = Trackers(config_of("wandb"), tmp_path)
    for step in range(5):
        found.log(step, NUMBERS)
    found.close()
    assert taken.seen == [2, 3, 4, -1]
    assert [record.message for record in caplog.records] == [
        "tracker wandb does not take the numbers of the run, which goes on without it: ConnectionError: no route to host",
        "tracker wandb: 2 steps were not logged; training.jsonl has them all",
    ]
