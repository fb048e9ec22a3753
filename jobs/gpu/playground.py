"""The playground recipe as a user would run it, colocated on the GPU."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

COLOCATED = [
    "placement=colocated", "training.workers=1", "training.gpus=0.4", "generators.gpus=0.4", "rankers.gpus=0.2",
    "generation.gpu_memory_utilization=0.3",
]  # fmt: skip


def end_to_end(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """In processes of its own."""
    if missing := [name for name in ("ray", "vllm") if find_spec(name) is None]:
        return {"left out": f"{' and '.join(missing)} not installed"}
    overrides = COLOCATED if device.type == "cuda" else []
    overrides += ["iterations=1", "prompts.limit=16", "evaluation.prompts.limit=8"] if tiny else []
    subprocess.run([sys.executable, "-m", "jobs.sppo", "--run-dir", str(folder / "run"), *overrides], check=True)
    report = json.loads((folder / "run" / "report.json").read_text())
    return {"iterations": [{key: row[key] for key in ("win_rate_vs_base", "seconds")} for row in report["iterations"]]}
