"""Seeded runs with fake engines and the real trainer in which random processes are killed, each held against a quiet run.

    python -m tests.cluster.chaos [--runs 50] [--seed 0] [--real 0] [--output chaos.json]

Every run ends by itself or by submitting its driver again; then every prompt is judged once, every pair trained once, what
was judged, trained and evaluated follows from the samples in the run folder, and every snapshot has its digests. With an
even seed the fakes repeat themselves, and pairs and training log are those of the quiet run; with an odd one they sample
differently each time, so that a run which went on from samples that were lost would be seen. --real adds so many playground runs
with PairRM and with vLLM's engine in a child process, its mode on GPUs, in which processes of several kinds are killed.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from jobs import demo
from sppo_ray.errors import DamagedFile
from sppo_ray.evaluation import duels, wins
from sppo_ray.fakes import FakeJudge
from sppo_ray.judging import pair
from sppo_ray.records import Anchored, Candidates, Judged
from sppo_ray.run_folder import Ledger
from sppo_ray.run_folder.snapshots import verify
from tests import ROOT

ITERATIONS = 2
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
FAULTS = ("lost", "doubled", "torn", "different", "contradictions")


@dataclass
class Outcome:
    """What one run came to. lost, doubled: prompts.  torn: blocks and snapshots that are not what was written.

    different: pairs and steps that are not those of the quiet run.  contradictions: see the function of that name.
    """

    seconds: float
    kills: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    different: int = 0
    contradictions: int = 0


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


def run(head: Head, command: list[str], log: Path, kills: list[tuple[float, str]]) -> Outcome:
    """Run a driver to its end, with kills (after that many seconds, of that kind); a kind that is not there yet is waited for."""
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
            victims = [driver.pid] if kind == "driver" else head.victims(kind)
            if victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
                done.append(pending.pop(0)[1])
        time.sleep(0.1)
    return Outcome(time.monotonic() - started, done)


def check(outcome: Outcome, root: Path, quiet: Path | None, judge: FakeJudge | None = None) -> Outcome:
    """Count what a run lost, doubled, tore or did differently from the quiet one. judge: the one of the run, if it is a fake."""
    ledger = Ledger(root)
    for iteration in range(1, ITERATIONS + 1):
        wanted = [prompt.prompt_id for prompt in ledger.prompts(iteration)]
        try:
            judged = list(ledger.rows(Judged, iteration))
            candidates = list(ledger.rows(Candidates, iteration))
            snapshot = ledger.snapshot(iteration)
            assert snapshot is not None
            verify(snapshot)
        except DamagedFile:
            outcome.torn += 1
            continue
        names = [row.prompt_id for row in judged]
        outcome.lost += len(set(wanted) - set(names)) + abs(len(candidates) - len(wanted))
        outcome.lost += abs(len(ledger.held_out(iteration)) - len(ledger.prompts(0)))
        outcome.doubled += len(names) - len(set(names))
        anchored = [row.prompt_id for row in ledger.rows(Anchored, iteration, "anchored-iter-0")]
        outcome.lost += anchored != (wanted if iteration > 1 and ledger.config().training.anchors.base else [])
        outcome.contradictions += contradictions(ledger, iteration, judge)
        log = ledger.training_rows(iteration)
        outcome.doubled += max(0, sum(row["pairs"] for row in log) - len(wanted))
        if quiet is not None:
            other = Ledger(quiet)
            pairs = zip(judged, other.rows(Judged, iteration), strict=True)
            outcome.different += sum(mine != theirs for mine, theirs in pairs)
            anchored = (list(one.rows(Anchored, iteration, "anchored-iter-0")) for one in (ledger, other))
            outcome.different += next(anchored) != next(anchored)
            # Equal numbers in every step: the same pairs, each once, in the same order, from the same weights.
            steps = zip(log, other.training_rows(iteration), strict=True)
            outcome.different += sum(mine != theirs for mine, theirs in steps)
    outcome.torn += len(list(root.rglob("*.tmp-*"))) + len(list(root.rglob("*.damaged")))
    return outcome


def contradictions(ledger: Ledger, iteration: int, judge: FakeJudge | None) -> int:
    """What does not follow from the samples in the run folder: judgements, steps by their tokens, the evaluation.

    A block that is sampled twice and used in both versions is one.
    """
    config, report = ledger.config(), ledger.report(iteration) or {}
    rows = list(ledger.scored(iteration))
    found = sum(judged.responses != candidates.responses for candidates, judged in rows)
    pairs = [pair(candidates, judged, config) for candidates, judged in rows]
    tokens = [2 * len(p.prompt_token_ids) + len(p.chosen.token_ids) + len(p.rejected.token_ids) for p in pairs]
    size = config.training.batch_size
    batches = [sum(tokens[start : start + size]) for start in range(0, len(tokens), size)]
    found += batches != [row["tokens"] for row in ledger.training_rows(iteration)]
    if judge is not None:
        new, base = ledger.held_out(iteration), ledger.held_out(0)
        rate = float(wins(judge.compare(*duels(new, base))).mean())
        found += report["win_rate_vs_base"] != pytest.approx(rate)
        lengths = [len(ids) for row in new for ids in row.token_ids]
        found += report["mean_response_tokens"] != pytest.approx(sum(lengths) / len(lengths))
    return found


def schedule(seed: int, seconds: float) -> list[tuple[float, str]]:
    """1 to 3 kills at random moments of a run that takes so long when it is left alone."""
    chance = random.Random(seed)
    return sorted((chance.uniform(0, 0.95 * seconds), chance.choice(KINDS)) for _ in range(chance.randint(1, 3)))


def fake_run(
    head: Head, folder: Path, kills: list[tuple[float, str]], quiet: Path | None, varied: bool = False
) -> Outcome:
    root = folder / "run"
    command = ["tests.cluster.chaos_driver", str(root), str(ITERATIONS), *(["varied"] if varied else [])]
    outcome = run(head, command, folder / "driver.log", kills)
    return check(outcome, root, None if varied else quiet, FakeJudge())


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
    parser.add_argument("--output", type=Path, default=Path("chaos.json"))
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="sppo-chaos-"))
    outcomes, real = [], []
    with ray_head(folder) as head:
        quiet = _in(folder, "quiet")
        alone = fake_run(head, quiet, [], None)
        print(f"quiet: {alone.seconds:.0f} s", flush=True)
        for number in range(given.runs):
            place, seed = _in(folder, f"run-{number}"), given.seed + number
            outcome = fake_run(head, place, schedule(seed, alone.seconds), quiet / "run", varied=seed % 2 == 1)
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
