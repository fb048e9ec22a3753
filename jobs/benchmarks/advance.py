"""From the last optimizer step to the first token of the next iteration: what each part takes, and its memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jobs.benchmarks import GIVE_BACK, Ratio, at_most
from sppo_ray import playground
from sppo_ray.config import load_config
from sppo_ray.records import Prompt, Snapshot

MODEL = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8, "head_dim": 128}


def run() -> list[Ratio]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _make_model(folder / "model")
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        program = ["-m", "jobs.benchmarks._publisher", str(folder / "model"), name]
        command = [sys.executable, *launch, *program]
        # DeepSpeed warns on standard output.
        subprocess.run(command, check=True, env=os.environ | GIVE_BACK, stdout=sys.stderr)
        found = json.loads((folder / "published.json").read_text())
        seconds = found["seconds"] | _load(folder)
    allowed = 2 * found["layer"] + found["shard"]
    return [
        at_most(
            "advance: extra memory of gather and write, two layers and a shard = 1",
            found["extra"] / allowed,
            1.0,
            model=f"{found['all'] >> 20} MiB, layer {found['layer'] >> 20}, shard {found['shard'] >> 20}",
            extra=f"{found['extra'] >> 20} MiB",
            publish=f"{found['wall']:.2f} s",
            **{part: f"{value:.2f} s" for part, value in seconds.items()},
        )
    ]


def _make_model(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM

    small = Gemma2Config.from_pretrained(playground.build().policy)
    AutoTokenizer.from_pretrained(playground.build().policy).save_pretrained(folder)
    config = Gemma2Config(**{**small.to_dict(), **MODEL, "layer_types": None})
    torch.manual_seed(0)
    Gemma2ForCausalLM(config).bfloat16().save_pretrained(folder)


def _load(folder: Path) -> dict[str, float]:
    from sppo_ray.sampling import VLLMGenerator

    config = load_config(overrides=["generation.max_new_tokens=1", "policy.max_prompt_length=64"])
    generator = VLLMGenerator(config, Snapshot(0, str(folder / "model")), [])
    prompt = Prompt("p", "", [5, 6, 7])
    generator.generate([prompt], 1, "iter-0")
    started = time.monotonic()
    generator.load(Snapshot(1, str(folder / "policy")))
    loaded = time.monotonic()
    generator.generate([prompt], 1, "iter-1")
    return {"load": loaded - started, "first token": time.monotonic() - loaded}
