"""An LLM as judge, on vLLM and behind an endpoint, against a sequential loop over all ordered pairs with the same library.

    python -m jobs.benchmarks.llm_judge

In: a random Llama of the size of the playground's judge, an endpoint of this machine that takes 20 ms for an answer,
`shared/data/candidates_real.jsonl` beside the checkout. Out: ratios of comparisons per second.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import permutations
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from jobs.benchmarks import Ratio, at_least
from jobs.benchmarks.judge import TEXTS
from jobs.benchmarks.judges import CHARACTERS, PART, Texts, in_turn
from sppo_ray import playground
from sppo_ray.config import JudgeSettings
from sppo_ray.judging.llm.endpoint import EndpointJudge
from sppo_ray.judging.llm.question import question, read_template
from sppo_ray.judging.llm.served import ServedJudge
from sppo_ray.judging.llm.verdict import MOST_TOKENS

SECONDS = 0.02  # of the endpoint, for an answer
PROMPTS = 10


def run() -> list[Ratio]:
    if not TEXTS.exists():
        print(f"llm_judge: {TEXTS} is not here, nothing measured")
        return []
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in TEXTS.read_text("utf-8").splitlines()[:PROMPTS]]
    texts: Texts = (
        [row["prompt"][: CHARACTERS[0]] for row in rows],
        [[text[: CHARACTERS[1]] for text in row["candidates"]] for row in rows],
    )
    with tempfile.TemporaryDirectory() as folder:
        save_chat_model(playground.build().policy, Path(folder))
        served = ServedJudge(JudgeSettings(kind="llm", model=folder), "cpu")
        ours, plain, _ = in_turn(partial(zeros, served.compare), partial(zeros, PlainServed(served).compare), texts)
    with endpoint() as url:
        asked = EndpointJudge(JudgeSettings(kind="llm", model="m", endpoint=url))
        theirs = openai.OpenAI(base_url=url, api_key="none")
        many, one_by_one, _ = in_turn(
            partial(zeros, asked.compare), partial(zeros, partial(plain_endpoint, theirs)), texts
        )
    how: dict[str, Any] = {"prompts": PROMPTS, "at a time": PART}
    return [
        at_least("llm: on vLLM, plain loop over pairs", plain / ours, 5, seconds=[round(ours, 2), round(plain, 2)], **how),
        at_least("llm: endpoint, plain loop over pairs", one_by_one / many, 5, seconds=[round(many, 2), round(one_by_one, 2)], **how),
    ]  # fmt: skip


def zeros(compare: Any, *texts: Any) -> float:
    """Time alone is measured here: what a random model says is no verdict."""
    compare(*texts)
    return 0.0


class PlainServed:
    """The same engine, asked one question at a time."""

    def __init__(self, served: ServedJudge) -> None:
        self._served = served

    def compare(self, prompts: list[str], candidates: list[list[str]]) -> None:
        for words in questions(prompts, candidates):
            self._served.ask([words])


def plain_endpoint(client: openai.OpenAI, prompts: list[str], candidates: list[list[str]]) -> None:
    for words in questions(prompts, candidates):
        client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": words}],
            temperature=0,
            max_tokens=MOST_TOKENS,
            logprobs=True,
            top_logprobs=20,
        )


def questions(prompts: list[str], candidates: list[list[str]]) -> Iterator[str]:
    template = read_template(None)
    for prompt, texts in zip(prompts, candidates, strict=True):
        for left, right in permutations(texts, 2):
            yield question(template, prompt, left, right)


@contextmanager
def endpoint() -> Iterator[str]:
    """Says A to every question."""
    token = {
        "token": "A",
        "logprob": -0.1,
        "bytes": None,
        "top_logprobs": [{"token": "A", "logprob": -0.1, "bytes": None}],
    }
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A"}, "logprobs": {"content": [token]}}  # fmt: skip
    answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    body = json.dumps(answer).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(SECONDS)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A bench shows its ratios."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def save_chat_model(policy: Path, folder: Path) -> None:
    """A Llama of the size of the playground's judge, with the policy's tokenizer."""
    tokenizer: Any = AutoTokenizer.from_pretrained(policy)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=4096,
    )
    AutoModelForCausalLM.from_config(LlamaConfig(**shape)).save_pretrained(folder)


if __name__ == "__main__":
    for ratio in run():
        print(ratio)
