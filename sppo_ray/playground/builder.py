"""Build the playground once and keep it in the user's cache.

In: settings. Out: the folders of policy, judge and prompts, named by a hash of the settings and this package's source.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import platformdirs

from sppo_ray.errors import RunFailed
from sppo_ray.playground.settings import PlaygroundSettings
from sppo_ray.playground.world import draw_prompts

Log = Callable[[str], object]
PACKAGE = Path(__file__).parent
STANDARD = PlaygroundSettings()


@dataclass(frozen=True)
class Playground:
    """policy: a Hugging Face model folder.  judge: a llm-blender checkpoint.  prompts: a folder of .jsonl files."""

    policy: Path
    judge: Path
    prompts: Path


def cache_folder(name: str, cache: Path | None = None) -> Path:
    """Where this project keeps what it makes once: in `cache`, $SPPO_RAY_CACHE or the user's cache folder."""
    root = cache or os.environ.get("SPPO_RAY_CACHE") or platformdirs.user_cache_dir("sppo-ray")
    return Path(root).resolve() / name


def build(settings: PlaygroundSettings = STANDARD, cache: Path | None = None, log: Log = print) -> Playground:
    """The playground of these settings: from the cache, or made now (about two minutes on two cores)."""
    folder = cache_folder("playground", cache) / _digest(settings)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The lock only saves duplicate work; the atomic rename is what keeps the folder correct.
        with open(folder.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                log(f"playground: building {folder}")
                _make(settings, folder, log)
    _repair(folder / "judge")
    return Playground(folder / "policy", folder / "judge", folder / "prompts")


def build_reward(made: Playground, settings: PlaygroundSettings = STANDARD, log: Log = print) -> Path:
    """The folder of a reward model that learned the rule: beside the judge, or trained now (half a minute)."""
    root = made.judge.parent
    if not (root / "reward").exists():
        with open(root.with_suffix(".lock"), "w") as lock, tempfile.TemporaryDirectory(dir=root) as temporary:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / "reward").exists():
                log(f"playground: training a reward model for {root}")
                folder = Path(temporary, "reward")
                training, base = str(root / "training.json"), str(made.judge / "base")
                _run_in_parallel({"reward": [settings.to_json(), training, base, str(folder)]}, log)
                folder.rename(root / "reward")
    return root / "reward"


def _digest(settings: PlaygroundSettings) -> str:
    digest = hashlib.sha256(settings.to_json().encode())
    for source in sorted(PACKAGE.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _make(settings: PlaygroundSettings, folder: Path, log: Log) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name}.tmp-", dir=folder.parent))
    try:
        training = _write_prompts(settings, temporary / "prompts")
        (temporary / "training.json").write_text(json.dumps(training), "utf-8")
        arguments = [settings.to_json(), str(temporary / "training.json")]
        _run_in_parallel(
            {
                "policy": [*arguments, str(temporary / "policy")],
                "judge": [*arguments, str(temporary / "judge"), str(folder / "judge")],
            },
            log,
        )
        temporary.chmod(0o755)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_prompts(settings: PlaygroundSettings, folder: Path) -> list[str]:
    """Write one file per iteration and one of held-out prompts; return the training prompts."""
    folder.mkdir()
    lists = draw_prompts(settings.seed, [settings.prompts] * settings.iterations + [settings.held_out])
    names = [f"train_iteration_{iteration}" for iteration in range(1, settings.iterations + 1)] + ["held_out"]
    for name, prompts in zip(names, lists, strict=True):
        rows = [{"prompt_id": f"{name}-{place:03d}", "prompt": prompt} for place, prompt in enumerate(prompts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return [prompt for prompts in lists[:-1] for prompt in prompts]


def _run_in_parallel(trainings: dict[str, list[str]], log: Log) -> None:
    """Run the trainings in parallel and pass their output to `log`; the first failure ends both."""
    path = os.pathsep.join(filter(None, [str(PACKAGE.parent.parent), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as errors:
        running = {}
        for name, arguments in trainings.items():
            command = [sys.executable, "-m", f"sppo_ray.playground.{name}", *arguments]
            with open(Path(errors, name), "w") as stderr:
                running[name] = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
                )
        threads = [Thread(target=_relay, args=(name, process, log)) for name, process in running.items()]
        try:
            for thread in threads:
                thread.start()
            failed = _first_failure(running)
        finally:
            for process in running.values():
                process.kill()
            for thread in threads:
                thread.join()
        if failed:
            tail = "\n".join(Path(errors, failed).read_text("utf-8", "replace").splitlines()[-15:])
            raise RunFailed(f"the playground's {failed} could not be trained:\n{tail}")


def _first_failure(running: dict[str, subprocess.Popen[str]]) -> str | None:
    waiting = dict(running)
    while waiting:
        for name, process in list(waiting.items()):
            try:
                status = process.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            if status:
                return name
            del waiting[name]
    return None


def _relay(name: str, process: subprocess.Popen[str], log: Log) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # Skip lines that libraries print.
        if line.startswith(f"{name} "):
            log(f"playground: {line.rstrip()}")


def _repair(judge: Path) -> None:
    """Update the absolute path in the judge's configuration, in case the cache was moved."""
    file = judge / "config.json"
    config = json.loads(file.read_text("utf-8"))
    if config["model_name"] != str(judge / "base"):
        config["model_name"] = str(judge / "base")
        temporary = file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(config, indent=1), "utf-8")
        temporary.replace(file)
