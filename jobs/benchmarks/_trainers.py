"""The same optimizer steps by this project's trainer and by TRL's, each under ZeRO-3 on two CPU processes.

    python -m torch.distributed.run --nproc_per_node 2 -m jobs.benchmarks._trainers ours|trl FOLDER made|real

FOLDER holds model and pairs; the seconds of each step are written to FOLDER/<way>.json. TRL needs its own environment.
made: a Gemma-2 of random weights and long responses. real: a model folder, with the lengths and settings of the recipe
smollm2-135m-instruct.
"""

import json
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from jobs.benchmarks import real_dtype
from sppo_ray.records import Pair, Response

WORKERS, PAIRS, STEPS, WARM_UP = 2, 4, 6, 2  # pairs: of a worker in a step; the first steps are not counted
MODEL = {
    "vocab_size": 8192, "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32,
}  # fmt: skip
TOKENS = 2048  # of a forward pass, in ours
ETA, LEARNING_RATE = 1000.0, 5e-7
SHARE = WORKERS * PAIRS


@dataclass(frozen=True)
class Work:
    """prompt, response: median and most tokens.  attention: here and in TRL, as the users of each get it."""

    vocabulary: int
    prompt: tuple[int, int]
    response: tuple[int, int]
    dtype: str
    attention: tuple[str, str]
    checkpointing: bool


WORKS = {
    "made": Work(MODEL["vocab_size"], (60, 256), (200, 512), "float32", ("eager", "eager"), True),
    "real": Work(49152, (50, 160), (45, 64), real_dtype(), ("eager", "sdpa"), False),
}


def pairs(work: Work) -> list[Pair]:
    """Prompts and responses of chat-like lengths: log-normal around their medians."""
    chance = random.Random(0)

    def tokens(median: int, most: int) -> list[int]:
        length = min(most, max(4, round(chance.lognormvariate(0, 0.6) * median)))
        return [chance.randrange(3, work.vocabulary) for _ in range(length)]

    def response(win_rate: float) -> Response:
        found = tokens(*work.response)
        return Response(found, [-10.0] * len(found), win_rate)

    return [Pair(str(n), tokens(*work.prompt), response(1.0), response(0.0)) for n in range(STEPS * SHARE)]


def trained_tokens(work: Work) -> int:
    """Of the steps that count: prompt and response, both responses of each pair, no padding."""
    counted = pairs(work)[WARM_UP * SHARE :]
    return sum(
        2 * len(pair.prompt_token_ids) + len(pair.chosen.token_ids) + len(pair.rejected.token_ids) for pair in counted
    )


def write_pairs(folder: Path, work: Work) -> None:
    from datasets import Dataset

    rows = [(pair.prompt_token_ids, pair.chosen.token_ids, pair.rejected.token_ids) for pair in pairs(work)]
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    Dataset.from_list([dict(zip(names, row, strict=True)) for row in rows]).save_to_disk(folder / "pairs")


def make_model(folder: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    Gemma2ForCausalLM(Gemma2Config(**MODEL)).save_pretrained(folder)  # type: ignore[arg-type]


def ours(folder: Path, work: Work) -> list[float]:
    from sppo_ray.config import load_config
    from sppo_ray.training.policy import TrainablePolicy

    settings = {
        "policy.dtype": work.dtype, "policy.attention": work.attention[0], "training.batch_size": SHARE, "training.eta": ETA,
        "training.learning_rate": LEARNING_RATE, "training.gradient_checkpointing": json.dumps(work.checkpointing),
        "training.micro_batch_size": PAIRS, "training.micro_batch_tokens": TOKENS, "training.reference_tolerance": 1e9,
    }  # fmt: skip
    config = load_config(overrides=[f"{key}={value}" for key, value in settings.items()])
    torch.distributed.init_process_group("gloo")
    policy = TrainablePolicy(config, str(folder), STEPS, torch.device("cpu"))
    rows = pairs(work)
    ends = [time.monotonic()]
    for step in range(STEPS):
        policy.step(rows[step * SHARE : (step + 1) * SHARE][int(os.environ["RANK"]) :: WORKERS])
        ends.append(time.monotonic())
    return ends


def trl(folder: Path, work: Work) -> list[float]:
    import deepspeed
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # gloo, as in ours

    class Clock(TrainerCallback):
        ends: list[float] = []  # noqa: RUF012

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            if not self.ends:
                self.ends.append(time.monotonic())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.monotonic())

    class Tokenized(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:  # the tokens are given
            return dataset

        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:  # the order is given, too
            return torch.utils.data.SequentialSampler(self.train_dataset)

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>")),
        pad_token="<pad>",
        eos_token="<eos>",
    )
    clock = Clock()
    arguments = DPOConfig(
        output_dir=str(folder / "trl"),
        loss_type=["sppo_hard"],
        beta=1 / ETA,
        learning_rate=LEARNING_RATE,
        optim="rmsprop",
        lr_scheduler_type="linear",
        warmup_steps=2,
        max_grad_norm=1.0,
        per_device_train_batch_size=PAIRS,
        max_length=1024,
        num_train_epochs=1,
        bf16=work.dtype == "bfloat16",
        use_cpu=True,
        gradient_checkpointing=work.checkpointing,
        model_init_kwargs={"attn_implementation": work.attention[1], "dtype": work.dtype},
        report_to=[],
        save_strategy="no",
        logging_steps=STEPS,
        disable_tqdm=True,
        deepspeed={
            "train_micro_batch_size_per_gpu": PAIRS,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 1.0,
            "bf16": {"enabled": work.dtype == "bfloat16"},
            "zero_optimization": {"stage": 3, "overlap_comm": False},
            "zero_allow_untested_optimizer": True,
        },
    )
    trainer = Tokenized(
        str(folder),
        args=arguments,
        train_dataset=Dataset.load_from_disk(folder / "pairs"),
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    return clock.ends


if __name__ == "__main__":
    torch.set_num_threads(1)
    way, folder, work = sys.argv[1], Path(sys.argv[2]), WORKS[sys.argv[3]]
    found = ours(folder, work) if way == "ours" else trl(folder, work)
    if os.environ["RANK"] == "0":
        (folder / f"{way}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()  # else gloo's threads may abort the process as it ends
