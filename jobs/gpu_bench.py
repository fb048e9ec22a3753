"""What only a GPU can tell, in one call: the playground end to end on it, then random weights of the true shapes.

    python -m jobs.gpu_bench [--tiny] [--output gpu_bench.json]

Prints and writes a dated list of numbers, to go into docs/performance.md. --tiny: small shapes, on a CPU if need be,
to see that the script itself works; its numbers mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DebertaV2Config, DebertaV2Model, Gemma2Config

from jobs.benchmarks.judge import load_blender
from sppo_ray import playground
from sppo_ray.config import load_config
from sppo_ray.judging import PairRM
from sppo_ray.records import Pair, Response
from sppo_ray.run_folder import files
from sppo_ray.run_folder.shards import write_shard

PEAK = 989e12  # dense bf16 FLOP/s of an H100 or H200, as its maker gives it
COLOCATED = [
    "placement=colocated", "training.workers=1", "training.gpus=0.4", "generators.gpus=0.4", "rankers.gpus=0.2",
    "generation.gpu_memory_utilization=0.3",
]  # fmt: skip
GEMMA = {
    "hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
    "intermediate_size": 14336, "vocab_size": 256_000, "query_pre_attn_scalar": 256, "sliding_window": 4096,
}  # fmt: skip
DEBERTA = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "position_buckets": 256, "max_position_embeddings": 512, "relative_attention": True,
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
    "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2}
TOKENS, STEPS = 1024, 4  # of a response with its prompt; optimizer steps, of which the first is not counted


def main() -> None:
    parser = argparse.ArgumentParser(prog="jobs/gpu_bench.py", description="Measure on a GPU.")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to check the script")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("gpu_bench.json"))
    given = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    found: dict[str, Any] = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "tiny": given.tiny,
    }
    with tempfile.TemporaryDirectory() as name:
        parts = {"playground": lambda: end_to_end(Path(name), on_gpu)}
        parts["gemma-2-9b training"] = lambda: training(Path(name), device, given.tiny)
        parts["pairrm"] = lambda: judging(Path(name), device, given.tiny)
        for part, measure in parts.items():
            found[part] = measure()
            print(part, json.dumps(found[part]), flush=True)
            files.write_json(given.output.resolve(), found)


def end_to_end(folder: Path, on_gpu: bool) -> dict[str, Any]:
    """The playground recipe as a user would run it, in processes of its own: nothing below means anything if this fails."""
    overrides = COLOCATED if on_gpu else ["iterations=1", "prompts.limit=16", "evaluation.prompts.limit=8"]
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "jobs.sppo", "--run-dir", str(folder / "run"), *overrides], check=True)
    report = json.loads((folder / "run" / "report.json").read_text())
    rows = [{key: row[key] for key in ("win_rate_vs_base", "seconds")} for row in report["iterations"]]
    return {"seconds": time.monotonic() - started, "iterations": rows}


def training(folder: Path, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Optimizer steps of 8 pairs of 1,024 tokens, one process under ZeRO-3 with its optimizer on the device."""
    from sppo_ray.training.policy import TrainablePolicy

    parameters = random_gemma(
        folder / "gemma", GEMMA | (SMALL | {"vocab_size": 512, "num_key_value_heads": 1} if tiny else {})
    )
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29533",
    }
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    length, each = (16, 2) if tiny else (TOKENS, 8)
    settings = ["training.workers=1", f"training.batch_size={each}", f"training.micro_batch_size={each}",
                "training.reference_tolerance=1e9", "training.learning_rate=5e-7", "training.gradient_checkpointing=true",
                f"training.micro_batch_tokens={8 * length}"]  # fmt: skip
    policy = TrainablePolicy(load_config(overrides=settings), str(folder / "gemma"), STEPS, device)
    response = Response(list(range(3, length // 2 + 3)), [-12.0] * (length // 2), 0.9)
    pairs = [Pair(str(n), [2] * (length // 2), response, response) for n in range(each)]
    policy.step(pairs)
    _synchronize(device)
    started = time.monotonic()
    for _ in range(STEPS - 1):
        policy.step(pairs)
    _synchronize(device)
    rate = (STEPS - 1) * 2 * each * length / (time.monotonic() - started)
    policy.close()
    torch.distributed.destroy_process_group()
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None
    return {"parameters": parameters, "tokens/s": rate, "mfu (6N)": 6 * parameters * rate / PEAK, "peak GiB": peak}


def random_gemma(folder: Path, shape: dict[str, Any]) -> int:
    """A Gemma-2 folder with random bfloat16 weights, written tensor by tensor; gives its number of parameters."""
    config = Gemma2Config(**shape)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    config.dtype = torch.bfloat16
    config.architectures = ["Gemma2ForCausalLM"]
    config.save_pretrained(folder)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, size in shapes.items():
            tensor = torch.empty(size, dtype=torch.bfloat16)
            yield name, tensor.zero_() if len(size) == 1 else tensor.normal_(std=0.02)

    write_shard(folder / "model.safetensors", shapes, torch.bfloat16, tensors(), Counter())
    return sum(torch.Size(size).numel() for size in shapes.values())


def judging(folder: Path, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Ordered comparisons of about 700 tokens per second, here in batches and by llm-blender one at a time."""
    checkpoint = random_pairrm(folder / "pairrm", DEBERTA | (SMALL if tiny else {}))
    judge = PairRM(checkpoint, device=str(device), batch_tokens=131_072 if device.type == "cuda" else 4096)
    words = "the answer is a longer text of many plain words ".split()
    repeated = words * (1 if tiny else 10)  # 23 tokens each
    prompts = [" ".join(repeated) for _ in range(2 if tiny else 64)]
    texts = [[" ".join([str(n), str(k), *repeated]) for k in range(5)] for n in range(len(prompts))]
    lengths = judge._encode(prompts, texts)
    tokens = int(lengths.sources[0, 1] + lengths.lengths[0, :2].sum())
    blender = load_blender(checkpoint, str(device))
    few = slice(0, max(1, len(prompts) // 16))  # one at a time takes long
    ours = _rate(lambda some: judge.compare(prompts[some], texts[some]), slice(None), len(prompts), device)
    theirs = _rate(lambda some: blender.rank(prompts[some], texts[some], batch_size=1), few, len(prompts[few]), device)
    encoder = sum(p.numel() for p in judge._model._encoder.layer.parameters())
    return {
        "tokens per comparison": tokens,
        "comparisons/s": ours,
        "mfu (2N a token, attention left out)": 2 * encoder * tokens * ours / PEAK,
        "llm-blender comparisons/s": theirs,
        "ratio": ours / theirs,
    }


def _rate(compare: Any, some: slice, prompts: int, device: torch.device) -> float:
    compare(slice(0, 1))
    _synchronize(device)
    started = time.monotonic()
    compare(some)
    _synchronize(device)
    return prompts * 20 / (time.monotonic() - started)


def random_pairrm(folder: Path, shape: dict[str, Any]) -> Path:
    """A PairRM checkpoint of random weights in llm-blender's format, with the tokenizer of the playground's judge."""
    base = folder / "base"
    tokenizer = AutoTokenizer.from_pretrained(playground.build().judge / "base")
    tokenizer.save_pretrained(base)
    network = DebertaV2Model(DebertaV2Config(**shape, vocab_size=len(tokenizer)))
    network.save_pretrained(base)
    weights = {f"pretrained_model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    size = shape["hidden_size"]
    heads = {"head_layer.1.weight": (size, 2 * size), "head_layer.1.bias": (size,), "head_layer.4.weight": (1, size)}
    weights |= {name: torch.randn(s) * 0.02 for name, s in heads.items()} | {"head_layer.4.bias": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors")
    settings = json.loads((playground.build().judge / "config.json").read_text()) | {"model_name": str(base)}
    (folder / "config.json").write_text(json.dumps(settings | {"fp16": torch.cuda.is_available()}))
    return folder


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
