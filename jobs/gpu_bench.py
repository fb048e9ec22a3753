"""What only a GPU can tell, in one call: the playground end to end on it, then random weights of the true shapes.

    python -m jobs.gpu_bench [--parts training judge ...] [--tiny] [--output gpu_bench.json]

Prints and writes a dated list of numbers, to go into docs/gpu.md, each beside the plan's and the public ones. Only the parts
`playground` (Ray, vLLM) and `sampling` (vLLM) need what a bare machine has not; they are left out there. A part that fails
leaves its error, and the others go on.
--tiny: small shapes, on a CPU if need be, to see that the script itself works; its numbers mean nothing.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jobs.gpu.judging import judging, rounding
from jobs.gpu.playground import end_to_end
from jobs.gpu.sampling import sampling
from jobs.gpu.training import training
from sppo_ray.run_folder import files

PARTS: dict[str, Callable[[Path, bool, torch.device], dict[str, Any]]] = {
    "playground": end_to_end,
    "sampling": sampling,
    "judge": judging,
    "rounding": rounding,
    "training": partial(training, attention="flex_attention"),
    "training_eager": partial(training, attention="eager"),
    "training_compiled": partial(training, attention="flex_attention", compiled=True),
}


def main() -> None:
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    parser = argparse.ArgumentParser(prog="jobs/gpu_bench.py", description="Measure on a GPU.")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure; all if not given"
    )
    parser.add_argument("--tiny", action="store_true", help="small shapes, to check the script")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("gpu_bench.json"))
    given = parser.parse_args()
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "tiny": given.tiny,
    }
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        for part in given.parts:
            started = time.monotonic()
            try:
                found[part] = PARTS[part](Path(name), given.tiny, device)
            except Exception as error:
                traceback.print_exc()
                found[part], failed = {"error": f"{type(error).__name__}: {error}"}, failed + 1
            found[part] |= {"seconds": round(time.monotonic() - started, 1)}
            print(part, json.dumps(found[part]), flush=True)
            files.write_json(given.output.resolve(), found)
            if on_gpu:  # the next part has the whole device
                gc.collect()
                torch.cuda.empty_cache()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    print(f"{failed} of {len(given.parts)} parts failed")
    sys.exit(int(failed > 0))


if __name__ == "__main__":
    main()
