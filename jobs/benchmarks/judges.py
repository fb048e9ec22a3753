"""Judges that score responses, against a sequential loop over all ordered pairs, and against PairRM.

    python -m jobs.benchmarks.judges

In: a random Llama of PairRM's size on the playground, its rule, `shared/data/candidates_real.jsonl` beside the checkout, cut
to lengths that both networks read whole. Out: ratios of comparisons per second, and the largest difference of a score.
"""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from jobs.benchmarks import Ratio, at_least, at_most, ratios
from jobs.benchmarks.judge import TEXTS
from sppo_ray import playground
from sppo_ray.judging import PairRM, load_judge
from sppo_ray.judging.reward import RewardModel

PROMPTS, PART = 12, 2  # both sides take such parts in turn
CHARACTERS = 200, 400  # of a prompt, of a response
Texts = tuple[list[str], list[list[str]]]


def run() -> list[Ratio]:
    if not TEXTS.exists():
        print(f"judges: {TEXTS} is not here, nothing measured")
        return []
    torch.set_num_threads(1)  # as in a ranker's process, to which Ray gives less than one CPU
    texts = real_texts(PROMPTS)
    world = playground.build()
    with tempfile.TemporaryDirectory() as folder:
        save_llama(AutoModelForSequenceClassification, world.policy, Path(folder), num_labels=1, initializer_range=0.1)
        reward, pairrm = RewardModel(folder), PairRM(world.judge)
        plain = PlainReward(folder)
        ours, theirs, error = in_turn(lambda *part: 2 * reward.compare(*part), plain.compare, texts)
        like_size, of_pairrm, _ = in_turn(reward.compare, pairrm.compare, texts)
    rule = load_judge({"kind": "python", "model": "sppo_ray.playground:rule_scores"})
    # The rule knows the playground's prompts only: its own, each with the same number of answers.
    asked = [json.loads(line)["prompt"] for line in (world.prompts / "held_out.jsonl").read_text().splitlines()] * 5
    known = asked, [[f"{text} Hope this helps." for text in asked[:5]] for _ in asked]
    scored, called, off = in_turn(lambda *part: 2 * rule.compare(*part), plain_rule, known)
    how: dict[str, Any] = {"prompts": PROMPTS, "threads": 1}
    return [
        at_least("judges: reward, plain loop over pairs", ratios(theirs, ours), 5, seconds=[round(sum(ours), 2), round(sum(theirs), 2)], **how),
        at_most("judges: reward, largest difference of a score", error, 1e-4),
        at_least("judges: reward, PairRM of like size", ratios(of_pairrm, like_size), 3, seconds=[round(sum(like_size), 2), round(sum(of_pairrm), 2)], **how),
        at_least("judges: python, plain loop over pairs", ratios(called, scored), 5, seconds=[round(sum(scored), 3), round(sum(called), 3)], prompts=len(asked)),
        at_most("judges: python, largest difference of a score", off, 1e-5),
    ]  # fmt: skip


def real_texts(count: int) -> Texts:
    """The first prompts and their responses, cut to `CHARACTERS`."""
    rows = [json.loads(line) for line in TEXTS.read_text("utf-8").splitlines()[:count]]
    prompts = [row["prompt"][: CHARACTERS[0]] for row in rows]
    return prompts, [[text[: CHARACTERS[1]] for text in row["candidates"]] for row in rows]


def in_turn(
    one: Callable[..., Any], other: Callable[..., Any], texts: Texts, part: int = PART
) -> tuple[list[float], list[float], float]:
    """Seconds of both in each round, of `part` prompts, and their largest difference."""
    error = 0.0
    seconds: tuple[list[float], list[float]] = [], []
    for judge in (one, other):
        judge(texts[0][:1], texts[1][:1])
    for start in range(0, len(texts[0]), part):
        some = tuple(column[start : start + part] for column in texts)
        found = []
        for side, judge in zip(seconds, (one, other), strict=True):
            began = time.perf_counter()
            found.append(judge(*some))
            side.append(time.perf_counter() - began)
        error = max(error, float(np.abs(found[0] - found[1]).max()))
    return *seconds, error


class PlainReward:
    """One pair after the other, one conversation a pass, as the cards of reward models show."""

    def __init__(self, folder: str) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()

    def compare(self, prompts: list[str], candidates: list[list[str]]) -> Any:
        return over_pairs(lambda prompt, pair: [self._score(prompt, text) for text in pair], prompts, candidates)

    @torch.inference_mode()
    def _score(self, prompt: str, response: str) -> float:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
        inputs = self._tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)
        return float(self._model(**inputs).logits[0, 0])


def plain_rule(prompts: list[str], candidates: list[list[str]]) -> Any:
    return over_pairs(playground.rule_scores, prompts, candidates)


def over_pairs(scores: Callable[[str, list[str]], list[float]], prompts: list[str], candidates: list[list[str]]) -> Any:
    """s_i - s_j of all ordered pairs, (N, K, K), by scoring the two responses of each."""
    each = len(candidates[0])
    found = np.zeros((len(prompts), each, each))
    for row, (prompt, texts) in enumerate(zip(prompts, candidates, strict=True)):
        for i, j in zip(*np.nonzero(~np.eye(each, dtype=bool)), strict=True):
            left, right = scores(prompt, [texts[i], texts[j]])
            found[row, i, j] = left - right
    return found


def save_llama(kind: Any, policy: Path, folder: Path, **more: Any) -> None:
    """A Llama of the size of the playground's judge, with the policy's tokenizer. kind: the auto class of its head."""
    tokenizer: Any = AutoTokenizer.from_pretrained(policy)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    kind.from_config(LlamaConfig(**shape, **more)).save_pretrained(folder)


if __name__ == "__main__":
    for ratio in run():
        print(ratio)
