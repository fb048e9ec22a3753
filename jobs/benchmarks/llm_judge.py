"""An LLM as judge, on vLLM and behind an endpoint, against a sequential loop over all ordered pairs with the same library.

    python -m jobs.benchmarks.llm_judge

In: a random Llama of the size of the playground's judge, an endpoint of this machine that takes 20 ms for an answer,
`shared/data/candidates_real.jsonl` beside the checkout. Out: ratios of comparisons per second.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import permutations
from pathlib import Path
from typing import Any

import openai
import torch
from transformers import AutoModelForCausalLM

from jobs.benchmarks import Ratio, at_least, ratios
from jobs.benchmarks.judge import TEXTS
from jobs.benchmarks.judges import in_turn, real_texts, save_llama
from sppo_ray import playground
from sppo_ray.config import JudgeSettings
from sppo_ray.judging.llm.endpoint import EndpointJudge
from sppo_ray.judging.llm.question import question, read_template
from sppo_ray.judging.llm.served import ServedJudge
from sppo_ray.judging.llm.verdict import MOST_TOKENS

READING = "more than half of the time is the model's reading of the questions, which no batch shortens on a CPU"
SECONDS = 0.02  # of the endpoint, for an answer
PROMPTS, BLOCK = 25, 5  # prompts at a time


def run() -> list[Ratio]:
    if not TEXTS.exists():
        print(f"llm_judge: {TEXTS} is not here, nothing measured")
        return []
    torch.set_num_threads(1)
    texts = real_texts(PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        save_llama(AutoModelForCausalLM, playground.build().policy, Path(folder), max_position_embeddings=4096)
        served = ServedJudge(JudgeSettings(kind="llm", model=folder), "cpu")
        ours, plain, _ = in_turn(served.compare, partial(one_by_one, lambda words: served.ask([words])), texts, BLOCK)
    with endpoint() as url:
        asked = EndpointJudge(JudgeSettings(kind="llm", model="m", endpoint=url))
        client = openai.OpenAI(base_url=url, api_key="none")
        ask = partial(
            client.chat.completions.create,
            model="m",
            temperature=0,
            max_tokens=MOST_TOKENS,
            logprobs=True,
            top_logprobs=20,
        )
        many, single, _ = in_turn(
            asked.compare,
            partial(one_by_one, lambda words: ask(messages=[{"role": "user", "content": words}])),
            texts,
            BLOCK,
        )
    how: dict[str, Any] = {"prompts": PROMPTS, "at a time": BLOCK}
    return [
        at_least("llm: on vLLM, plain loop over pairs", ratios(plain, ours), 5, READING, seconds=[round(sum(ours), 2), round(sum(plain), 2)], **how),
        at_least("llm: endpoint, plain loop over pairs", ratios(single, many), 5, seconds=[round(sum(many), 2), round(sum(single), 2)], **how),
    ]  # fmt: skip


def one_by_one(ask: Callable[[str], Any], prompts: list[str], candidates: list[list[str]]) -> float:
    """Ask about every ordered pair. Time alone is measured: what a random model says is no verdict."""
    template = read_template(None)
    for prompt, texts in zip(prompts, candidates, strict=True):
        for pair in permutations(texts, 2):
            ask(question(template, prompt, *pair))
    return 0.0


@contextmanager
def endpoint() -> Iterator[str]:
    """Says A to every question, from a process of its own, as a server's is."""
    context = multiprocessing.get_context("spawn")
    ports = context.SimpleQueue()
    process = context.Process(target=serve, args=(ports,), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ports.get()}/v1"
    process.terminate()


def serve(ports: Any) -> None:
    token: dict[str, Any] = {"token": "A", "logprob": -0.1, "bytes": None}
    token |= {"top_logprobs": [dict(token)]}
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
    ports.put(server.server_port)
    server.serve_forever()


if __name__ == "__main__":
    for ratio in run():
        print(ratio)
