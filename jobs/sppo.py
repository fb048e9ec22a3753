"""The main job: a self-play run from a recipe to the last iteration's policy.

    sppo-ray run [--recipe NAME | --config FILE] [--run-dir DIR] [key.path=value ...]

`python jobs/sppo.py` is the same. Without arguments it runs the playground. Without a Ray cluster it starts Ray on this
machine. Exit status: 0 done, 1 the run failed, 2 the input is at fault, 3 stopped on request.
"""

import argparse
import os
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from actors.cluster.connection import check_address, connect
from actors.cluster.machines import machines
from actors.cluster.preflight import preflight
from actors.engines import most_resources, start_pools
from actors.run.coordinator import start_coordinator
from actors.service.gateway import reserve_port, start_gateway
from actors.service.metrics import provision_dashboard
from jobs import check
from jobs.command_line import add_configuration, configuration, duration, show_any_text
from sppo_ray.config import Config
from sppo_ray.errors import RunStopped, SppoError, StorageError, UserError
from sppo_ray.planning.placing import place
from sppo_ray.preparation import Preparation, about, absolute_paths, check_cluster, prepare, store_prompts
from sppo_ray.reporting import PoolStatus, RunStatus, Stage, seconds_left
from sppo_ray.reporting.report import result_table, run_warnings, write_run_report
from sppo_ray.run_folder import Ledger, files, location

PLACED = ("placement", "generation", "judge", "training", "generators", "rankers")  # sections that the plan may set
FOLLOW_SECONDS, MAX_FOLLOW_SECONDS = 5.0, 120.0
ANSWER_SECONDS = 30.0  # for the gateway to start; the run does not depend on it
GATEWAY_SECONDS = 2.0  # for the gateway to close
KILL_SECONDS = 0.5  # until the processes of the killed actors are gone, too, and write no more


def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if "--check" in words:
        return check.main([word for word in words if word != "--check"])
    show_any_text()
    with ExitStack() as held:
        try:
            return job(words, held)
        except StorageError as error:
            print(f"the run failed: {error}", file=sys.stderr)
            return 1


def job(arguments: list[str], held: ExitStack) -> int:
    """The whole run, its folder held until the end; returns the exit status."""
    try:
        config, root = parse(arguments)
        check_address()
        preparation = prepare(config, say)
        if config.placement == "auto":
            config, preparation = placed(config, preparation)
        ledger = Ledger(root)
        held.enter_context(ledger.hold())
        new = ledger.claim(config, about())
        store_prompts(ledger, preparation.prompts, preparation.prompt_report)
        preparation = replace(preparation, prompts=[])  # of a large run gigabytes; the others read them from the folder
        say(f"{'run folder' if new else 'continuing the run in'} {root}")
        say(connect())
        check_cluster(config, most_resources())
        for note in preflight(preparation.config, root):
            say(note)
        reserve_port(config)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        if ledger.finished_iterations() < config.iterations:
            run(preparation, ledger, start_pools(preparation, ledger))
    except RunStopped as error:
        say(str(error.cause))
        return 3
    except (SppoError, ray.exceptions.RayError) as error:
        failure = root / "failure.txt"
        with suppress(StorageError):  # it may be what ended the run
            files.write_bytes(failure, str(error).encode())
        print(f"the run failed: {getattr(error, 'cause', error)}\ntraceback: {failure}", file=sys.stderr)
        return 1
    report = write_run_report(ledger)
    Console(width=140).print(result_table(report))
    for warning in run_warnings(report):
        say(warning)
    say(f"policy: {ledger.iteration(config.iterations) / 'policy'}")
    say(f"report: {root / 'report.html'} and report.json")
    return 0


def parse(arguments: list[str]) -> tuple[Config, Path]:
    """The configuration and the run folder that the command line asks for."""
    parser = argparse.ArgumentParser(prog="sppo-ray run", description="Run SPPO self-play, or continue a run.")
    add_configuration(parser)
    parser.add_argument(
        "--run-dir", metavar="DIR", help="the run folder, a path or an fsspec URI; an existing one is continued"
    )
    parser.add_argument(
        "--check", action="store_true", help="the same as `sppo-ray check`: check the input, start nothing"
    )
    given = parser.parse_intermixed_args(arguments)
    config = absolute_paths(configuration(given))
    root = given.run_dir or str(default_root() / f"{config.recipe}-{datetime.now():%Y%m%d-%H%M%S}")
    return config, location(root)


def placed(config: Config, preparation: Preparation) -> tuple[Config, Preparation]:
    """The configuration as written and as prepared, placed on the cluster at hand."""
    say(connect())
    found = place(preparation.config, machines(most_resources()), max(map(len, preparation.prompts[1:])))
    update = {name: getattr(found, name) for name in PLACED}
    workers, pools = found.training.workers, f"{found.generators.max} generators, {found.rankers.max} rankers"
    say(f"placement: {found.placement}, {workers} train workers, {pools}")
    return config.model_copy(update=update), replace(preparation, config=found)


def default_root() -> Path:
    """Where runs go: $SPPO_RAY_RUNS, else ./runs; of a submitted job, whose folder Ray deletes, ~/sppo-ray-runs."""
    if "SPPO_RAY_RUNS" in os.environ:
        return Path(os.environ["SPPO_RAY_RUNS"])
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    return Path.home() / "sppo-ray-runs" if submitted else Path("runs")


def run(preparation: Preparation, ledger: Ledger, pools: tuple[Any, Any]) -> None:
    """Start coordinator and gateway on these generators and rankers, follow the run to its end, and stop them all."""
    config = preparation.config
    coordinator = start_coordinator(config, ledger, preparation.base, preparation.rule)
    gateway, address = start_gateway(config, ledger, reserve_port(config), coordinator, *pools)
    known = address.write()
    provision_dashboard()
    try:
        finished = coordinator.run.remote(*pools)
        ray.wait([gateway.answering.remote()], timeout=ANSWER_SECONDS)
        say(f"watch, steer, chat: {address.url} (its token is in {known})")
        follow(coordinator, finished)
    finally:  # also when the job is told to stop: Ray raises SystemExit here
        known.unlink(missing_ok=True)
        ray.wait([gateway.close.remote()], timeout=GATEWAY_SECONDS)
        for actor in (coordinator, gateway, *pools):
            ray.kill(actor)
        time.sleep(KILL_SECONDS)


def follow(coordinator: Any, finished: Any) -> None:
    """Print the run's progress, a few lines at a time, until it ends; raises what ended it."""
    said: set[str] = set()
    started = time.monotonic()
    while True:
        # Every few seconds at first, every few minutes in a run of days.
        pause = min(max(FOLLOW_SECONDS, (time.monotonic() - started) / 50), MAX_FOLLOW_SECONDS)
        done, _ = ray.wait([finished], timeout=pause)
        lines = describe(ray.get(coordinator.status.remote()))
        if new := [line + rest for line, rest in lines.items() if line not in said]:
            say("\n         ".join(new))
        said = set(lines)
        if done:
            ray.get(finished)
            return


def describe(status: RunStatus) -> dict[str, str]:
    """Lines on a run, and the end of each that is no news where it alone has changed: a stage's rate and the time left."""
    head = f"iteration {status.iteration}: {status.phase}" if status.iteration else status.phase
    loss = f", loss {status.loss:.4g}" if status.loss is not None else ""
    paused = ", paused" if status.paused else ""
    why = [f"paused: {status.pause_reason}; `sppo-ray resume` tries again"] if status.pause_reason else []
    left = seconds_left(status.stages)
    stages = {key: stage for key, stage in status.stages.items() if stage.began is not None}
    return {
        **dict.fromkeys([f"{head}{paused}{loss}", *why], ""),
        **{f"{one.name:<9} {one.done} of {one.total} {one.unit}": _rate(one, left[key]) for key, one in stages.items()},
        **{line: "" for name, pool in status.pools.items() if (line := _pool_line(name, pool))},
        **dict.fromkeys(status.warnings, ""),
    }


def _rate(stage: Stage, left: float | None) -> str:
    rate = f", {stage.rate:.3g}/s" if stage.rate else ""
    after = f", {duration(left)} left" if left else ""
    return f"{rate}{after}"


def _pool_line(name: str, pool: PoolStatus) -> str:
    """What the engines of a pool do; nothing if they are there and idle."""
    starting = sum(member.state == "starting" for member in pool.members)
    parts = [f"{starting} of {len(pool.members)} starting"] if starting else []
    if pool.sequences and pool.tokens_per_second is not None:
        parts.append(f"{pool.tokens_per_second:,.0f} tokens/s")
    if pool.sequences:
        parts.append(f"{pool.sequences} sequences in flight")
    return f"{name}: {', '.join(parts)}" if parts else ""


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
