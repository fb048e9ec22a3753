"""vLLM's engine core as a child process, its mode on GPUs; `tests/cluster/orphans.py` kills whoever owns such an engine."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from sppo_ray.config import load_config
from sppo_ray.errors import EngineFailed
from sppo_ray.playground import Playground
from sppo_ray.prompts import chat_template
from sppo_ray.records import ChatRequest, Prompt, Snapshot
from sppo_ray.run_folder.publishing import publish
from sppo_ray.sampling import VLLMGenerator, vllm_engine
from tests.conftest import engines_as_children
from tests.sampling.mismatch import mismatch, network_of

SECONDS = 240.0  # at most; a slow CPU, shared with another test


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def _as_a_child() -> Iterator[None]:
    with engines_as_children():
        yield


@pytest.mark.usefixtures("_as_a_child")
def test_a_child_engine_samples_loads_answers_hangs_and_dies(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One engine for all of it, because a start takes long."""
    monkeypatch.setattr(vllm_engine, "COUNT_SECONDS", 0.0)
    stops = chat_template.stop_token_ids(
        chat_template.ChatEncoder(chat_template.load_tokenizer(str(playground.policy))), None
    )
    prompts = [Prompt(f"p{n}", "", [2, 5, 9 + n]) for n in range(4)]
    before = psutil.Process().children(recursive=True)
    engine = VLLMGenerator(
        load_config(overrides=["generation={max_new_tokens: 150, temperature: 2.0}"]),  # noise, which seldom stops
        Snapshot(0, str(playground.policy)),
        stops,
    )
    children = [process for process in psutil.Process().children(recursive=True) if process not in before]
    children = [process for process in children if process.name().startswith("VLLM::")]  # Python adds one of its own
    (core,) = [process for process in children if process.name() == "VLLM::EngineCore"]

    network = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.bfloat16)
    torch.manual_seed(0)
    changed = {name: (p + 0.02 * torch.randn_like(p)).detach() for name, p in network.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in changed.items()}
    snapshot = publish(tmp_path / "policy", 1, shapes, torch.bfloat16, changed.items(), str(playground.policy), "")
    old = engine.generate(prompts, 2, "iter-0")
    engine.load(snapshot)
    new = engine.generate(prompts, 2, "iter-1")
    limit = load_config().training.reference_tolerance  # unlikely tokens, whose logits bfloat16 rounds coarsely
    assert mismatch(network_of(snapshot.uri), new) < limit < mismatch(network_of(snapshot.uri), old)
    engine.sleep()  # a CPU has no device memory to free
    engine.wake()
    assert sum(piece.tokens for moment in engine.chat(ChatRequest([2, 5, 9], 1, 5, 1.0, 1.0), "a") for piece in moment)

    def at_work(pool: ThreadPoolExecutor) -> "Future[list[object]]":
        tokens = engine.progress().tokens
        run: Future[list[object]] = pool.submit(engine.generate, prompts, 5, "iter-1")  # type: ignore[arg-type]
        until(lambda: engine.progress().tokens > tokens)
        return run

    with ThreadPoolExecutor() as pool:
        run = at_work(pool)
        for process in children:
            process.suspend()
        time.sleep(0.5)  # for what it had sent before
        hung = engine.progress()
        time.sleep(0.5)
        assert engine.progress() == hung and not run.done()  # whoever waits has a limit of its own
        for process in children:
            process.resume()
        assert len(run.result(SECONDS)) == len(prompts)

        run = at_work(pool)
        core.kill()
        with pytest.raises(EngineFailed, match=f"vLLM's engine process {core.pid} ended"):
            run.result(SECONDS)
    until(lambda: all(not process.is_running() or process.status() == "zombie" for process in children))
    for ask in (engine.progress, lambda: engine.generate(prompts, 2, "iter-1"), lambda: engine.load(snapshot)):
        with pytest.raises(Exception, match=r"engine process \d+ ended|EngineCore"):
            ask()
