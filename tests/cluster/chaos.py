"""Seeded runs with fake engines and the real trainer in which random processes are killed, each held against a quiet run.

    python -m tests.cluster.chaos [--runs 50] [--seed 0] [--real 0] [--endpoint] [--output chaos.json] [key.path=value ...]

Every run ends by itself or by submitting its driver again; then every prompt is judged once, every pair trained once, what
was judged, trained and evaluated follows from the samples in the run folder, and every snapshot has its digests. With an
even seed the fakes repeat themselves, and pairs and training log are those of the quiet run; with an odd one they sample
differently each time, so that a run which went on from samples that were lost would be seen. --real adds so many playground runs
with PairRM and with vLLM's engine in a child process, its mode on GPUs, in which processes of several kinds are killed.
--endpoint: the judge is an LLM behind an endpoint that fails in every way, and is down once in each run, which pauses it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil

from jobs import cli, demo
from sppo_ray.errors import ConfigError
from sppo_ray.fakes import FakeJudge
from sppo_ray.records import Judged
from sppo_ray.run_folder import Ledger, read_usage
from tests import ROOT
from tests.cluster.chaos_check import FAULTS, ITERATIONS, Outcome, check
from tests.cluster.failing_endpoint import FailingEndpoint, failing_endpoint

RUN_SECONDS = 600
# Of a process, as `ps` shows it. The driver is known by its process id.
TITLES = {
    "generator": "ray::GeneratorActor",
    "ranker": "ray::RankerActor",
    "train worker": "ray::RayTrainWorker",
    "coordinator": "ray::Coordinator",
    "engine": "VLLM::EngineCore",
}
KINDS = ["generator", "ranker", "train worker", "coordinator", "driver"]
REAL_KILLS, REAL_SECONDS = 4, 25.0  # of a run, and between two of them
# What Ray keeps for the next job.
RAYS_OWN = {
    "IDLE",
    "DashboardAgent",
    "RuntimeEnvAgent",
    "_StatsActor",
    "_AutoscalingCoordinatorActor",
    "ActorLocationTracker",
}
LEAVE_SECONDS = 15


class Head:
    """A Ray head of its own, and the processes under it."""

    def __init__(self, process: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
        self.process, self.environment = process, environment

    def victims(self, kind: str) -> list[int]:
        return [pid for pid, title in self._titles() if title.startswith(TITLES[kind])]

    def left_behind(self) -> list[str]:
        """What still runs of jobs that have ended, a while later."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while left := [title for _, title in self._titles() if title.startswith("ray::") and title[5:] not in RAYS_OWN]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
        return left

    def _titles(self) -> Iterator[tuple[int, str]]:
        """Process id and command line of each process under the head."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                yield process.pid, " ".join(process.cmdline()).strip()  # Ray pads a title with blanks
            except psutil.NoSuchProcess:
                continue


@contextmanager
def ray_head(folder: Path) -> Iterator[Head]:
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_worker_maximum_startup_concurrency": "8"}
    environment |= {"PYTHONPATH": str(ROOT), "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    subprocess.run([demo.BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port, gcs = demo.free_port(), demo.free_port()
    temporary = tempfile.mkdtemp(prefix="chaos-")  # short: Ray's sockets lie in it
    process = demo.start_head(port, environment, folder / "ray.log", temporary, gcs)
    try:
        demo.wait_for(f"http://127.0.0.1:{port}", process, folder / "ray.log")
        yield Head(process, environment | {"RAY_ADDRESS": f"127.0.0.1:{gcs}"})
    finally:
        demo.stop(process)
        shutil.rmtree(temporary, ignore_errors=True)


def submit(head: Head, command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command], env=head.environment, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
        )


def run(
    head: Head, command: list[str], log: Path, kills: list[tuple[float, str]], endpoint: FailingEndpoint | None = None
) -> Outcome:
    """Run a driver to its end, with kills (after that many seconds, of that kind); a kind that is not there yet is waited for.

    An endpoint that is killed is down until the run has paused.
    """
    started, pending, done = time.monotonic(), list(kills), []
    driver = submit(head, command, log)
    chance = random.Random(str(kills))
    while (status := driver.poll()) != 0:
        if status is not None:
            if status != -signal.SIGKILL:
                raise AssertionError(f"the driver ended with status {status}, see {log}")
            driver = submit(head, command, log)
        if time.monotonic() - started > RUN_SECONDS:
            driver.kill()
            raise AssertionError(f"no end after {RUN_SECONDS} s, see {log}")
        if pending and time.monotonic() - started >= pending[0][0]:
            kind = pending[0][1]
            victims = [driver.pid] if kind == "driver" else head.victims(kind) if kind in TITLES else []
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
            elif kind == "endpoint" and endpoint:
                endpoint.down = True
            if victims or kind == "endpoint":
                done.append(pending.pop(0)[1])
        if endpoint and "endpoint" in done and go_on(Path(command[1]), endpoint):
            done.append("a pause")
        time.sleep(0.1)
    if endpoint:
        endpoint.down = False
    return Outcome(time.monotonic() - started, done)


def go_on(root: Path, endpoint: FailingEndpoint) -> bool:
    """Bring the endpoint back and resume the run, if it has paused for it."""
    try:
        with cli.connect(argparse.Namespace(url=None, token=None, run=str(root))) as client:
            if "does not answer" not in (client.get("/api/run", timeout=5).json()["pause_reason"] or ""):
                return False
            endpoint.down = False
            client.post("/api/resume", timeout=5)
    except (ConfigError, httpx.HTTPError):  # not yet there, or just killed
        return False
    return True


def schedule(seed: int, seconds: float) -> list[tuple[float, str]]:
    """1 to 3 kills at random moments of a run that takes so long when it is left alone."""
    chance = random.Random(seed)
    return sorted((chance.uniform(0, 0.95 * seconds), chance.choice(KINDS)) for _ in range(chance.randint(1, 3)))


def fake_run(
    head: Head,
    folder: Path,
    kills: list[tuple[float, str]],
    quiet: Path | None,
    varied: bool = False,
    endpoint: FailingEndpoint | None = None,
    overrides: Sequence[str] = (),
) -> Outcome:
    root = folder / "run"
    if endpoint:
        overrides = [*overrides, f"judge={json.dumps(endpoint.settings)}", "max_set_aside=0.2"]
        endpoint.calm = not kills
    command = ["tests.cluster.chaos_driver", str(root), str(ITERATIONS), *(["varied"] if varied else []), *overrides]
    outcome = run(head, command, folder / "driver.log", kills, endpoint)
    if not endpoint:
        return check(outcome, root, None if varied else quiet, FakeJudge())
    endpoint.calm = True
    check(outcome, root, None if varied else quiet, endpoint.judge())
    used = read_usage(root)["judge"]
    print(f"{ {name: round(count) for name, count in used.items() if count} }", flush=True)
    unknown = sum(
        int(np.isnan(row.comparisons).sum()) for t in range(1, ITERATIONS + 1) for row in Ledger(root).rows(Judged, t)
    )
    outcome.contradictions += int(used["unreadable"] + used["refused"] < unknown)  # each is counted
    return outcome


def real_run(head: Head, folder: Path, seed: int) -> Outcome:
    """The playground on vLLM and PairRM, two iterations, with kills of different kinds; nothing to hold it against."""
    root = folder / "run"
    command = ["jobs.sppo", "--run-dir", str(root), f"iterations={ITERATIONS}", "training.checkpoint_steps=5"]
    kinds = random.Random(seed).sample([*KINDS, "engine"], REAL_KILLS)
    kills = [(number * REAL_SECONDS, kind) for number, kind in enumerate(kinds)]
    return check(run(head, command, folder / "driver.log", kills), root, None)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", type=int, default=0, help="runs with the real engines")
    parser.add_argument("--endpoint", action="store_true", help="an LLM behind an endpoint that fails as judge")
    parser.add_argument("--output", type=Path, default=Path("chaos.json"))
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="of the runs' configuration")
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="sppo-chaos-"))
    outcomes, real = [], []
    with ray_head(folder) as head, failing_endpoint() if given.endpoint else nullcontext() as endpoint:
        one_run = partial(fake_run, head, endpoint=endpoint, overrides=given.overrides)
        quiet = _in(folder, "quiet")
        alone = one_run(quiet, [], None)
        print(f"quiet: {alone.seconds:.0f} s", flush=True)
        for number in range(given.runs):
            place, seed = _in(folder, f"run-{number}"), given.seed + number
            kills = schedule(seed, alone.seconds)
            if endpoint:
                kills = sorted([*kills, (random.Random(seed).uniform(0, 0.7 * alone.seconds), "endpoint")])
            outcome = one_run(place, kills, quiet / "run", varied=seed % 2 == 1)
            print(f"seed {seed}: {outcome}", flush=True)
            outcomes.append(outcome)
            shutil.rmtree(place)
        for seed in range(given.seed, given.seed + given.real):
            real.append(real_run(head, _in(folder, f"real-{seed}"), seed))
            print(f"real engines, seed {seed}: {real[-1]}", flush=True)
    kills = sum(len(outcome.kills) for outcome in outcomes)
    summary = {"runs": len(outcomes), "kills": kills, "real_runs": len(real)}
    for name in FAULTS:
        summary[name] = sum(getattr(outcome, name) for outcome in outcomes + real)
    late = sum(outcome.seconds - alone.seconds for outcome in outcomes)
    report = {**summary, "seconds_lost_per_kill": round(late / max(kills, 1), 1)}
    given.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))
    shutil.rmtree(folder)
    return 0 if not any(summary[name] for name in FAULTS) else 1


def _in(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


if __name__ == "__main__":
    sys.exit(main())
