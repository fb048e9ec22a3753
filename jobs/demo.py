"""The playground, or another recipe, on a Ray head of its own, submitted as a job, as on a real cluster.

    sppo-ray demo [--recipe NAME] [key.path=value ...]        `make demo` and python jobs/demo.py are the same
    sppo-ray demo --recipe smollm2-135m-instruct              `make demo-real`: a real language model

Starts a local Ray head with its dashboard, runs `ray job submit -- sppo-ray run`, follows its log, says where to look,
and stops the head again, also when interrupted. Arguments are those of `sppo-ray run`; runs go to ./runs.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

from actors.cluster.connection import shorten_temporary_folder
from jobs.command_line import command
from sppo_ray.instructions import small_model
from sppo_ray.planning.devices import slow_in_bf16

START_SECONDS = 120
STOP_SECONDS = 30
DASHBOARD_PORT = 8265
OBJECT_STORE_BYTES = 512 << 20
REAL_MODEL = "smollm2-135m-instruct"  # the recipe
BIN = Path(sys.executable).parent


@command
def main(arguments: list[str] | None = None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if set(words) & {"-h", "--help"}:
        print((__doc__ or "").strip())
        return 0
    words = [*words, *overrides(words)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started this in the background
    runs = Path("runs").resolve()
    run_dir, log = runs / f"demo-{datetime.now():%Y%m%d-%H%M%S}", runs / "demo-ray.log"
    shorten_temporary_folder()
    environment = head_environment()
    if not (Path.home() / ".ray" / "auth_token").exists():  # where Ray keeps it; the command takes two seconds
        subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port = free_port(DASHBOARD_PORT)
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="sppo-ray-", ignore_cleanup_errors=True) as folder:
        head = start_head(port, environment, log, folder)
        try:
            wait_for(address, head, log)
            print(f"Ray dashboard: {address} (token: `{BIN / 'ray'} get-auth-token`)", flush=True)
            print(f"run folder:    {run_dir}", flush=True)
            settings = json.dumps({"env_vars": {"PATH": environment["PATH"]}})
            submit = ["job", "submit", "--address", address, "--runtime-env-json", settings]
            job = ["sppo-ray", "run", "--run-dir", str(run_dir), *words]
            return subprocess.run(
                [BIN / "ray", "--logging-level", "error", *submit, "--", *job], env=environment, check=False
            ).returncode
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        finally:
            stop(head)


def overrides(words: list[str]) -> list[str]:
    """The folder of the real model, and the precision that this machine is fast in, of recipes made for CPUs.

    Nothing where the words name another recipe or a configuration, or set the same.
    """
    given = {word.split("=")[0] for word in words}
    real = REAL_MODEL in {word.removeprefix("--recipe=") for word in words}
    if not real and given & {"--recipe", "--config"}:
        return []
    found = []
    if real and "policy.model" not in given:
        found.append(f"policy.model={small_model()}")
    if "policy.dtype" not in given and (has := slow_in_bf16()):
        print(f"policy.dtype=float32: this CPU has {has} and no more, and is slow in bfloat16", flush=True)
        found.append("policy.dtype=float32")
    return found


def head_environment() -> dict[str, str]:
    """What the head and its clients need. Their calls to this machine carry Ray's token: they never pass a proxy."""
    environment = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # the dashboard's Train tab
        "RAY_worker_maximum_startup_concurrency": "8",  # a run has more light processes than a small machine has cores
    }
    environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
    environment.pop("RAY_ADDRESS", None)  # Ray would submit to that cluster, whatever --address says
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if excepted != "*":
        excepted = ",".join(filter(None, [excepted, "127.0.0.1", "localhost"]))
    return environment | {"no_proxy": excepted, "NO_PROXY": excepted}


def start_head(
    port: int, environment: dict[str, str], log: Path, folder: str, gcs_port: int | None = None
) -> subprocess.Popen[bytes]:
    """A Ray head as a child process: stopping it stops this head and no other on the machine.

    Its files go to a folder of its own, so that no later `ray.init()` takes it for the machine's running cluster.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["start", "--head", "--block", "--port", str(gcs_port or free_port()), "--dashboard-port", str(port)]
    command += ["--dashboard-agent-listen-port", str(free_port())]  # another Ray of this machine has the default one
    limits = ["--object-store-memory", str(OBJECT_STORE_BYTES), "--disable-usage-stats", "--temp-dir", folder]
    at_once = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # else a stop waits 30 s for Ray's own actors
    with log.open("wb") as file:
        return subprocess.Popen(
            [BIN / "ray", *command, *limits],
            env=environment | at_once,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the head in order
        )


def wait_for(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if head.poll() is not None:
            raise SystemExit(f"the Ray head ended with status {head.returncode}: see {log}")
        try:
            direct.open(f"{address}/api/version", timeout=2)
            return
        except urllib.error.HTTPError:
            return  # it answers, and asks for the token
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the Ray dashboard did not answer within {START_SECONDS} s: see {log}")


def stop(head: subprocess.Popen[bytes]) -> None:
    head.terminate()
    try:
        head.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)


def free_port(wanted: int = 0) -> int:
    """The wanted port if it is free, else any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
