"""The workload of a run: prompts, tokens, comparisons, steps, bytes.

In: the configuration and shapes. Out: the `Work` of one iteration, and bytes stored and sent.
"""

from dataclasses import dataclass
from pathlib import Path

from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.judging import judge_kind
from sppo_ray.models import Shape
from sppo_ray.planning.memory import FP32, micro_batch, number_bytes, trained_parameters
from sppo_ray.training.optimizer import find_optimizer

# Prompts per iteration. Snorkel's card: about 20k per split; UltraFeedback: about 64k in one split, divided by three.
PROMPTS = {
    "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset": 20_000,
    "openbmb/UltraFeedback": 21_300,
    "playground": 220,
    "instructions": 140,
}
HELD_OUT = {"playground": 165, "instructions": 104}  # prompts of their own

# Mean tokens. UltraFeedback's prompts: about 190. Responses: the released Gemma's AlpacaEval mean is 1669 to 1803
# characters, about 400 tokens. The playground's are its own.
PROMPT_TOKENS, RESPONSE_TOKENS = 190, 400
PLAYGROUND_PROMPT_TOKENS, PLAYGROUND_RESPONSE_TOKENS = 16, 12

CHARACTERS = 4.5  # per token
TOKEN_BYTES = 4 + 4 + CHARACTERS  # id, log-probability, text
PACKED = 0.6  # Parquet's compression; assumed


@dataclass(frozen=True)
class Work:
    """Workload of one iteration. prompt, response: mean tokens. comparisons: pairs of responses, once per order compared.

    judge_usd: US dollars that endpoints charge for the comparisons, those of the evaluation included.
    """

    prompts: int
    held_out: int
    prompt: int
    response: int
    comparisons: int
    generated_tokens: int
    judged_tokens: int
    trained_tokens: int
    anchored_tokens: int
    steps: int
    blocks: int
    judge_usd: float

    @property
    def held_out_tokens(self) -> int:
        return self.held_out * self.response


def work(config: Config) -> Work:
    """Raises `ConfigError` if the number of prompts cannot be known without reading them."""
    prompts, candidates, policy = prompts_an_iteration(config), config.generation.candidates, config.policy
    in_playground = config.policy.model == "playground" or config.prompts.source == "playground"
    prompt = PLAYGROUND_PROMPT_TOKENS if in_playground else PROMPT_TOKENS
    response = PLAYGROUND_RESPONSE_TOKENS if in_playground else RESPONSE_TOKENS
    prompt, response = min(prompt, policy.max_prompt_length), min(response, config.generation.max_new_tokens)
    comparisons = prompts * candidates * (candidates - 1) * config.judge.orders // 2
    demands = [judge_kind(judge).demand(prompt, response) for judge in config.judges]
    judge, evaluation = demands[0], config.evaluation
    held_out = HELD_OUT.get(config.prompts.source, evaluation.held_out) * evaluation.responses
    # Held-out responses are compared with those of the base and of the previous policy.
    marked = sum(2 * held_out * one.orders * demand.usd for one, demand in zip(config.judges, demands, strict=True))
    shown = judge.tokens * (comparisons if judge.each == "comparison" else prompts * candidates)
    trained = min(policy.max_length, prompt + response)
    epochs = config.training.epochs
    others = len(config.training.other_anchors(config.iterations))  # of the last iteration, which has most
    return Work(
        prompts=prompts,
        held_out=held_out,
        prompt=prompt,
        response=response,
        comparisons=comparisons,
        generated_tokens=prompts * candidates * response,
        judged_tokens=round(shown),
        trained_tokens=2 * prompts * trained * epochs,
        anchored_tokens=2 * prompts * (prompt + response) * others,
        steps=-(-prompts // config.training.batch_size) * epochs,
        blocks=-(-prompts // config.block),
        judge_usd=comparisons * judge.usd + marked,
    )


def prompts_an_iteration(config: Config) -> int:
    source, split = config.prompts.source, config.prompts.split or ""
    if config.prompts.limit is not None:
        return config.prompts.limit if "{iteration}" in split else config.prompts.limit // config.iterations
    if source in PROMPTS:
        return PROMPTS[source]
    if Path(source).suffix == ".jsonl" and Path(source).is_file():
        with Path(source).open("rb") as lines:
            return sum(1 for _ in lines) // config.iterations
    raise ConfigError(
        f"prompts.source={source}: its number of prompts is not known before it is read: set prompts.limit for the plan"
    )


def storage_bytes(config: Config, shape: Shape, work: Work) -> dict[str, float]:
    """Bytes of the whole run folder."""
    candidates = config.generation.candidates
    blocks = work.prompts * (work.prompt * TOKEN_BYTES + candidates * work.response * TOKEN_BYTES) * PACKED
    judged = work.prompts * (candidates * work.response * CHARACTERS + candidates**2 * 8) * PACKED
    return {
        "candidates": config.iterations * blocks,
        "judged": config.iterations * judged,
        **kept_bytes(config, shape),
    }


def kept_bytes(config: Config, shape: Shape) -> dict[str, float]:
    """Bytes of what trainers write, at its most. Checkpoints are of one iteration, and the last one stays until the next is there."""
    size, tuned = number_bytes(config), trained_parameters(config, shape)
    masters = min(2, config.iterations - 1) if config.training.carry == "master" else 0
    policies = min((config.storage.keep_snapshots or config.iterations) + 1, config.iterations)
    return {
        "policies": policies * size * tuned,
        "checkpoints": (config.storage.keep_checkpoints + 1) * checkpoint_bytes(config, shape),
        "masters": masters * FP32 * tuned,
    }


def checkpoint_bytes(config: Config, shape: Shape) -> float:
    """Bytes of one checkpoint: weights, float32 weights, the optimizer's states."""
    each = number_bytes(config) + FP32 * (1 + find_optimizer(config.training.optimizer).states)
    return float(each * trained_parameters(config, shape))


def network_bytes(config: Config, shape: Shape, work: Work, generators: int, workers: int) -> dict[str, float]:
    """Bytes of the whole run between machines and storage. Each generator and the trainers read a snapshot once."""
    weights, tuned = (number_bytes(config) * count for count in (shape.parameters, trained_parameters(config, shape)))
    passes = work.trained_tokens / max(1, _tokens_a_pass(config, workers))
    return {
        "snapshots": config.iterations * tuned * (generators + 1),
        "zero_each_worker": config.iterations * (2 * weights + tuned) * (workers - 1) / workers * passes,
        "blocks": 4 * sum(storage_bytes(config, shape, work)[name] for name in ("candidates", "judged")),
    }


def _tokens_a_pass(config: Config, workers: int) -> float:
    """Tokens in one forward pass of all workers together."""
    rows, length = micro_batch(config)
    return rows * length * workers
