"""One iteration the release's way: a process after the other, each from its own start.

    python -m jobs.benchmarks._release {sample|rank|train} FOLDER RECIPE [key.path=value ...]

An engine started anew samples one response to each prompt five times; llm-blender ranks at batch 1, or the recipe's judge
where that is no PairRM; the trainer, under ZeRO-3, holds a second copy of the model and has it score every batch. The step
itself is this project's, in the release's favour. In and out: the blocks of a ledger in FOLDER.
"""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sppo_ray.config import load_config
from sppo_ray.judging import filler, judged_rows, load_judge, pair, trained
from sppo_ray.preparation import Preparation, prepare
from sppo_ray.records import Candidates, Judged, Pair
from sppo_ray.run_folder import Ledger

WORKERS = 2
LISTS = ("responses", "token_ids", "logprobs", "finish_reasons")  # of candidates, one entry a response


def iterate(folder: Path, recipe: str, words: list[str]) -> dict[str, float]:
    """Seconds of each stage, in processes of their own."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(WORKERS)]
    seconds = {}
    for stage in ("sample", "rank", "train"):
        launcher = torchrun if stage == "train" else []
        started = time.perf_counter()
        module = ["-m", "jobs.benchmarks._release", stage, str(folder), recipe]
        command = [sys.executable, *launcher, *module, *words, f"training.workers={WORKERS}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds[stage] = time.perf_counter() - started
    return seconds


def sample(preparation: Preparation, ledger: Ledger) -> None:
    from sppo_ray.sampling import VLLMGenerator

    generator = VLLMGenerator(preparation.config, preparation.base, preparation.stop_token_ids)
    passes = [
        generator.generate(preparation.prompts[1], 1, preparation.base.name)
        for _ in range(preparation.config.generation.candidates)
    ]
    rows = [
        replace(several[0], **{name: [getattr(one, name)[0] for one in several] for name in LISTS})
        for several in zip(*passes, strict=True)
    ]
    ledger.write(rows, Candidates, ledger.block(Candidates, 1, 0))


def rank(preparation: Preparation, ledger: Ledger) -> None:
    from jobs.benchmarks.judge import load_blender

    settings, rows = preparation.config.judge, ledger.candidates(1, 0)
    texts = [row.prompt for row in rows], [row.responses for row in rows]
    if settings.kind == "pairrm":
        scores = load_blender(Path(settings.model)).rank(*texts, return_scores=True, batch_size=1)
        comparisons = (scores[:, :, None] - scores[:, None, :]) / 2
    else:
        comparisons = load_judge(settings).compare(*texts)
    judged, _ = judged_rows(rows, comparisons, np.zeros(len(rows), dtype=np.float32), settings)
    ledger.write(judged, Judged, ledger.block(Judged, 1, 0))


def train(preparation: Preparation, ledger: Ledger) -> None:
    import deepspeed
    import torch
    import torch.distributed as dist
    from transformers import AutoModelForCausalLM

    from sppo_ray.run_folder.publishing import publish, torch_dtype
    from sppo_ray.training.policy import TrainablePolicy

    config, base = preparation.config, preparation.base.uri
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    dtype, attention = torch_dtype(config.policy.dtype), config.policy.attention
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=dtype, attn_implementation=attention).eval()
    both = zip(ledger.candidates(1, 0), ledger.judged(1, 0), strict=True)
    rows = [pair(sampled, judged, config) for sampled, judged in both if trained(judged, config.training)]
    size, worker = config.training.batch_size, dist.get_rank()
    policy = TrainablePolicy(config, base, -(-len(rows) // size), torch.device("cpu"))
    for start in range(0, len(rows), size):
        share = rows[start : start + size][worker::WORKERS]
        policy.step(rescored(reference, share) if share else [filler()])
    if worker == 0:
        publish(ledger.iteration(1) / "policy", 1, policy.shapes(), dtype, policy.gather(), base, card="")
    else:
        policy.assist()
    policy.close()
    dist.destroy_process_group()


def rescored(reference: Any, pairs: list[Pair]) -> list[Pair]:
    """The pairs with the reference model's log-probabilities, from a forward pass of all their responses."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from sppo_ray.training.logprobs import token_logprobs

    responses = [(pair.prompt_token_ids, response) for pair in pairs for response in (pair.chosen, pair.rejected)]
    token_ids = pad_sequence(
        [torch.tensor(prompt + response.token_ids) for prompt, response in responses],
        batch_first=True,
        padding_value=-1,
    )
    with torch.inference_mode():
        logits = reference(input_ids=token_ids.clamp(min=0), attention_mask=(token_ids >= 0).long()).logits
        scored = token_logprobs(logits, token_ids.clamp(min=0)).numpy()
    found = [
        replace(response, reference_logprobs=row[len(prompt) : len(prompt) + len(response.token_ids)].tolist())
        for (prompt, response), row in zip(responses, scored, strict=True)
    ]
    return [replace(pair, chosen=found[2 * i], rejected=found[2 * i + 1]) for i, pair in enumerate(pairs)]


if __name__ == "__main__":
    work = {"sample": sample, "rank": rank, "train": train}[sys.argv[1]]
    config = load_config(sys.argv[3], overrides=sys.argv[4:])
    work(prepare(config, say=lambda line: None), Ledger(Path(sys.argv[2])))
