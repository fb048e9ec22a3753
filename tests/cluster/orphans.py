"""Kills whoever owns a vLLM engine that runs as a child process, in the middle of a step, and waits for the engine to be gone.

    python -m tests.cluster.orphans [--times 20]

Each time a driver of its own starts Ray and a generator. The generator is killed, and once Ray has restarted it and it samples
again, its raylet, its driver, or raylet and generator together. An engine that still has a process after 5 s is left behind.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests import ROOT

SECONDS = 5.0
OWNERS = [["raylet"], ["driver"], ["raylet", "generator"]]


def drive(root: Path) -> None:
    """Have an engine sample for ever; print the process ids of its owners each time that it has begun to."""
    import ray
    from ray.exceptions import RayActorError

    from actors.engines import generator
    from sppo_ray import playground
    from sppo_ray.config import load_config
    from sppo_ray.prompts.chat_template import ChatEncoder, load_tokenizer, stop_token_ids
    from sppo_ray.records import Prompt, Snapshot
    from sppo_ray.run_folder import Ledger
    from sppo_ray.sampling import VLLMGenerator

    base = Snapshot(0, str(playground.build(log=lambda _: None).policy))
    # At this temperature the policy writes noise, which seldom stops by itself.
    config = load_config(overrides=["generation={max_new_tokens: 500, temperature: 2.0}", "generators.cpus=0.1"])
    stops = stop_token_ids(ChatEncoder(load_tokenizer(base.uri)), None)
    ray.init("local", log_to_driver=False, include_dashboard=False)
    actor = generator.start(config, partial(VLLMGenerator, config, base, stops), Ledger(root), "generator-0")
    prompts = [Prompt(f"p{n}", "", [2, 5, 9 + n]) for n in range(50)]
    while True:
        pid, _ = ray.get(actor.ready.options(max_task_retries=-1).remote())
        block = actor.generate.remote(root / "block", prompts, 5, base.name)
        while not ray.get(actor.progress.remote()).tokens:
            time.sleep(0.2)
        print(json.dumps({"generator": pid, "raylet": psutil.Process(pid).ppid(), "driver": os.getpid()}), flush=True)
        with suppress(RayActorError):
            ray.get(block)


def kill(owners: list[str]) -> list[float | None]:
    """Seconds until the engine was gone after the death of the generator, then of these owners; None if it was not in time."""
    with TemporaryDirectory() as folder:
        driver = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.orphans", "--drive", folder],
            cwd=ROOT,
            env=os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "RAY_AUTH_MODE": "token"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        everything: set[psutil.Process] = set()
        try:
            return [_gone(driver, victims, everything) for victims in (["generator"], owners)]
        finally:
            driver.kill()
            driver.wait()
            for process in everything:
                if process.is_running():
                    process.kill()


def _gone(driver: subprocess.Popen[bytes], victims: list[str], everything: set[psutil.Process]) -> float | None:
    assert driver.stdout is not None
    pids = json.loads(next(line for line in driver.stdout if line.startswith(b"{")))  # Ray tells of deaths there, too
    everything |= set(psutil.Process(driver.pid).children(recursive=True))
    below = psutil.Process(pids["generator"]).children(recursive=True)
    # Not by their names: now and then vLLM's title for a process is not taken on.
    engine = [process for process in below if "resource_tracker" not in " ".join(process.cmdline())]
    assert engine, f"no engine below {pids}: {below}"
    started = time.monotonic()
    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)
    while any(process.is_running() and process.status() != "zombie" for process in engine):
        if time.monotonic() - started > SECONDS:
            return None
        time.sleep(0.05)
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive:
        drive(given.drive)
        return 0
    found: dict[str, list[float | None]] = {}
    for _, owners in zip(range(given.times), cycle(OWNERS), strict=False):
        for victims, seconds in zip(["generator", " and ".join(owners)], kill(owners), strict=True):
            found.setdefault(victims, []).append(seconds)
            print(f"{victims}: {seconds}", flush=True)
    for victims, times in found.items():
        gone = [value for value in times if value is not None]
        print(f"{victims}: gone {len(gone)} of {len(times)} times, after {max(gone, default=0.0):.2f} s at most")
    return 0 if all(None not in times for times in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
