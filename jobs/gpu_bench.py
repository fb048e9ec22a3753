"""What only a GPU can tell, in one call: the playground end to end on it, then random weights of the true shapes.

    python -m jobs.gpu_bench [--parts training judge ...] [--tiny] [--output gpu_bench.json]

Prints and writes a dated list of numbers, to go into docs/gpu.md, each beside the plan's and the public ones. Only the part
`playground` needs Ray and vLLM; without them it is left out. A part that fails leaves its error, and the others go on.
--tiny: small shapes, on a CPU if need be, to see that the script itself works; its numbers mean nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import date
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    DebertaV2Config,
    DebertaV2Model,
    DebertaV2Tokenizer,
    Gemma2Config,
)

from jobs.benchmarks.judge import load_blender
from sppo_ray.config import load_config
from sppo_ray.judging import PairRM
from sppo_ray.planning.rates import JUDGE_SHARE, TRAIN_SHARE
from sppo_ray.preference import select_pair
from sppo_ray.records import Pair, Response
from sppo_ray.run_folder import files
from sppo_ray.run_folder.shards import write_shard

PEAK = 989e12  # dense bf16 FLOP/s of an H100 or H200, as its maker gives it
PUBLIC = {  # measured by others
    "training": "MFU 0.33 to 0.39, 5,762 to 6,667 tokens/s (torchtitan: Llama-3.1-8B, FSDP, bf16, 8 x H100); "
    "0.41, 12,473 tokens/s (NeMo Automodel: Llama-3-8B, LoRA, one H100)",
    "judge": "none found for DeBERTa-v3-large",
    "playground": "5,777 tokens/s (vLLM, offline: Llama-3.1-8B in FP8, one H100)",
}
COLOCATED = [
    "placement=colocated", "training.workers=1", "training.gpus=0.4", "generators.gpus=0.4", "rankers.gpus=0.2",
    "generation.gpu_memory_utilization=0.3",
]  # fmt: skip
GEMMA = {
    "hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
    "intermediate_size": 14336, "vocab_size": 256_000, "query_pre_attn_scalar": 256, "sliding_window": 4096,
}  # fmt: skip
EMBEDDING, LAYER = 0.92e9, 0.198e9  # parameters
STATES = 12  # bytes per parameter: weights, gradients, float32 weights and RMSprop's mean
DEBERTA = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
    "position_buckets": 256, "max_position_embeddings": 512, "relative_attention": True,
    "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
    "position_biased_input": False, "type_vocab_size": 0,
}  # fmt: skip
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128, "num_attention_heads": 2}
WORDS = "the answer is a longer text of many plain words".split()
TOKENS, STEPS = 1024, 4  # of a response with its prompt; optimizer steps, of which the first is not counted


def main() -> None:
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    parts: dict[str, Callable[[Path, bool], dict[str, Any]]] = {
        "playground": partial(end_to_end, on_gpu=on_gpu),
        "judge": partial(judging, device=device),
        "rounding": partial(rounding, device=device),
        "training": partial(training, device=device, attention="flex_attention"),
        "training_eager": partial(training, device=device, attention="eager"),
    }
    parser = argparse.ArgumentParser(prog="jobs/gpu_bench.py", description="Measure on a GPU.")
    parser.add_argument(
        "--parts", nargs="+", choices=parts, default=list(parts), help="what to measure; all if not given"
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
                found[part] = parts[part](Path(name), given.tiny)
            except Exception as error:
                traceback.print_exc()
                found[part], failed = {"error": f"{type(error).__name__}: {error}"}, failed + 1
            found[part] |= {"seconds": round(time.monotonic() - started, 1)}
            print(part, json.dumps(found[part]), flush=True)
            files.write_json(given.output.resolve(), found)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    print(f"{failed} of {len(given.parts)} parts failed")
    sys.exit(int(failed > 0))


def end_to_end(folder: Path, tiny: bool, on_gpu: bool) -> dict[str, Any]:
    """The playground recipe as a user would run it, in processes of its own."""
    if missing := [name for name in ("ray", "vllm") if find_spec(name) is None]:
        return {"left out": f"{' and '.join(missing)} not installed"}
    overrides = COLOCATED if on_gpu else []
    overrides += ["iterations=1", "prompts.limit=16", "evaluation.prompts.limit=8"] if tiny else []
    subprocess.run([sys.executable, "-m", "jobs.sppo", "--run-dir", str(folder / "run"), *overrides], check=True)
    report = json.loads((folder / "run" / "report.json").read_text())
    rows = [{key: row[key] for key in ("win_rate_vs_base", "seconds")} for row in report["iterations"]]
    return {"iterations": rows, "public": PUBLIC["playground"]}


def training(folder: Path, tiny: bool, device: torch.device, attention: str) -> dict[str, Any]:
    """Optimizer steps of 8 pairs of 1,024 tokens, one process under ZeRO-3 with its optimizer on the device.

    Of Gemma-2-9B's 42 layers as many as fit.
    """
    from sppo_ray.training.policy import TrainablePolicy

    shape = GEMMA | (SMALL | {"vocab_size": 512, "num_key_value_heads": 1} if tiny else {})
    if device.type == "cuda" and not tiny:
        room = 0.75 * torch.cuda.get_device_properties(device).total_memory / STATES
        shape["num_hidden_layers"] = min(42, int((room - EMBEDDING) / LAYER))
        torch.cuda.reset_peak_memory_stats()
    parameters = random_gemma(folder / "gemma", shape, device)
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533"}
    length, each = (16, 2) if tiny else (TOKENS, 8)
    settings = ["training.workers=1", f"training.batch_size={each}", f"training.micro_batch_size={each}",
                "training.reference_tolerance=1e9", "training.learning_rate=5e-7", "training.gradient_checkpointing=true",
                f"training.micro_batch_tokens={8 * length}", f"policy.attention={attention}", "policy.dtype=bfloat16",
                f"training.gpus={int(device.type == 'cuda')}"]  # fmt: skip
    response = Response(list(range(3, length // 2 + 3)), [-12.0] * (length // 2), 0.9)
    pairs = [Pair(str(n), [2] * (length // 2), response, response) for n in range(each)]
    if not torch.distributed.is_initialized():  # DeepSpeed keeps the first group
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    policy = TrainablePolicy(load_config(overrides=settings), str(folder / "gemma"), STEPS, device)
    first = policy.step(pairs)
    _synchronize(device)
    started = time.monotonic()
    for _ in range(STEPS - 1):
        policy.step(pairs)
    _synchronize(device)
    rate = (STEPS - 1) * 2 * each * length / (time.monotonic() - started)
    policy.close()
    return {
        "parameters": parameters,
        "layers": shape["num_hidden_layers"],
        "first log-ratio": first.chosen_log_ratio,  # the same for both attentions, but for rounding
        "tokens/s": rate,
        "mfu (6N)": 6 * parameters * rate / PEAK,
        "share of the peak (8N, with recomputing)": 8 * parameters * rate / PEAK,
        "share in the plan": TRAIN_SHARE,
        "goal of mfu": 0.45,
        "public": PUBLIC["training"],
        "peak GiB": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
    }


def random_gemma(folder: Path, shape: dict[str, Any], device: torch.device) -> int:
    """A Gemma-2 folder with random bfloat16 weights, written tensor by tensor; gives its number of parameters."""
    config = Gemma2Config(**shape)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    count = sum(torch.Size(size).numel() for size in shapes.values())
    if folder.exists():  # of the other attention
        return count
    config.dtype = torch.bfloat16
    config.architectures = ["Gemma2ForCausalLM"]
    config.save_pretrained(folder)

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        for name, size in shapes.items():
            tensor = torch.zeros(size, dtype=torch.bfloat16, device=device)
            yield name, (tensor if len(size) == 1 else tensor.normal_(std=0.02)).cpu()

    write_shard(folder / "model.safetensors", shapes, torch.bfloat16, tensors(), Counter())
    return count


def judging(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """Ordered comparisons of about 700 tokens per second, here in batches and by llm-blender one at a time."""
    checkpoint = random_pairrm(folder / "pairrm", DEBERTA | (SMALL if tiny else {}))
    judge = PairRM(checkpoint, device=str(device), batch_tokens=131_072 if device.type == "cuda" else 4096)
    prompts, texts = _texts(2 if tiny else 64, 1 if tiny else 22)
    lengths = judge._encode(prompts, texts)
    tokens = int(lengths.sources[0, 1] + lengths.lengths[0, :2].sum())
    blender = load_blender(checkpoint, str(device))
    few = slice(0, max(1, len(prompts) // 16))  # one at a time takes long
    judge.compare(prompts[::-1], texts[::-1])  # as many rows as in the measurement, for which kernels are compiled
    ours = _rate(lambda some: judge.compare(prompts[some], texts[some]), slice(None), len(prompts), device)
    theirs = _rate(lambda some: blender.rank(prompts[some], texts[some], batch_size=1), few, len(prompts[few]), device)
    encoder = sum(p.numel() for p in judge._model._encoder.layer.parameters())
    return {
        "tokens per comparison": tokens,
        "comparisons/s": ours,
        "tokens/s": tokens * ours,
        "share of the peak (2N per token)": 2 * encoder * tokens * ours / PEAK,
        "share in the plan": JUDGE_SHARE,
        "llm-blender comparisons/s": theirs,
        "ratio": ours / theirs,
        "goal of the ratio": 5,
        "public": PUBLIC["judge"],
    }


def rounding(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """Logits in each precision against float32 on the device, the pairs they choose, and float32 against a CPU."""
    checkpoint = random_pairrm(folder / "pairrm", DEBERTA | (SMALL if tiny else {}))
    prompts, texts = _texts(2 if tiny else 32, 1 if tiny else 10)

    def logits(where: str, dtype: str, many: int) -> Any:
        # flex_attention's kernel for CPUs does not compile where widths vary (torch 2.13).
        with torch.compiler.set_stance("force_eager") if where == "cpu" else nullcontext():
            judge = PairRM(checkpoint, device=where, dtype=dtype, batch_tokens=16_384)
            return judge.compare(prompts[:many], texts[:many])

    exact, on_cpu = logits(device.type, "float32", len(prompts)), logits("cpu", "float32", 1)
    found: dict[str, Any] = {
        "prompts": len(prompts),
        "logits, root mean square": float(np.sqrt((exact**2).mean())),
        "float32 to a CPU, largest difference": float(np.abs(exact[:1] - on_cpu).max()),
    }
    pairs = np.stack(select_pair(exact, "pairwise", 1.0))
    for dtype in ("float16", "bfloat16"):
        rounded = logits(device.type, dtype, len(prompts))
        other = np.stack(select_pair(rounded, "pairwise", 1.0))
        found[dtype] = {
            "mean difference": float(np.abs(rounded - exact).mean()),
            "largest difference": float(np.abs(rounded - exact).max()),
            "pairs that differ": int((pairs != other).any(axis=0).sum()),
        }
    return found


def _texts(prompts: int, repeats: int) -> tuple[list[str], list[list[str]]]:
    """Prompts with five responses each, all different, of about 10 tokens per repeat."""
    chance = np.random.default_rng(0)

    def text() -> str:
        return " ".join(chance.choice(WORDS, 10 * repeats))

    return [text() for _ in range(prompts)], [[text() for _ in range(5)] for _ in range(prompts)]


def _rate(compare: Any, some: slice, prompts: int, device: torch.device) -> float:
    compare(slice(0, 1))
    _synchronize(device)
    started = time.monotonic()
    compare(some)
    _synchronize(device)
    return prompts * 20 / (time.monotonic() - started)


def random_pairrm(folder: Path, shape: dict[str, Any]) -> Path:
    """A PairRM checkpoint of random weights in llm-blender's format."""
    base = folder / "base"
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"\u2581{word}" for word in WORDS)]
    tokenizer = DebertaV2Tokenizer(vocab=[(piece, -float(place)) for place, piece in enumerate(pieces)])
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    network = DebertaV2Model(DebertaV2Config(**shape, vocab_size=len(tokenizer), initializer_range=0.05))
    network.save_pretrained(base)
    network.resize_token_embeddings(len(tokenizer) + 4, mean_resizing=False)  # llm-blender adds four prefix tokens
    weights = {f"pretrained_model.{name}": value.contiguous() for name, value in network.state_dict().items()}
    size = shape["hidden_size"]
    heads = {"head_layer.1.weight": (size, 2 * size), "head_layer.1.bias": (size,), "head_layer.4.weight": (1, size)}
    weights |= {name: torch.randn(s) * 0.1 for name, s in heads.items()} | {"head_layer.4.bias": torch.zeros(1)}
    save_file(weights, folder / "model.safetensors")
    settings = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": str(base), "n_tasks": 1,
                "source_maxlength": 1224, "candidate_maxlength": 412, "fp16": torch.cuda.is_available()}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
