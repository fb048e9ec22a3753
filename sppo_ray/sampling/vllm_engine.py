"""Sampling: K responses to each prompt, with the raw log-probability of every sampled token; and answers to people.

In: `Prompt`s, or an `ChatRequest`. Out: `Candidates`, stamped with the snapshot they came from, or `TokenDelta`s as they are sampled.
The one module that touches vLLM.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppo_ray.config import Config
from sppo_ray.errors import EngineFailed, SnapshotMismatch
from sppo_ray.records import Candidates, ChatRequest, Prompt, Snapshot, TokenDelta
from sppo_ray.sampling.deltas import token_delta

PEOPLE, RUN = -1, 0  # priorities of requests: the lower goes first


@dataclass
class _Request:
    prompt: Prompt
    candidates: int
    future: Future[Any]

    def fail(self, error: Exception) -> None:
        self.future.set_exception(error)


@dataclass
class _Chat:
    """A person's request. news: pieces, what went wrong, or None at the end."""

    ask: ChatRequest
    name: str
    news: queue.SimpleQueue[list[TokenDelta] | Exception | None]

    def take(self, output: Any, snapshot: str) -> None:
        self.news.put([token_delta(completion, snapshot, self.ask.logprobs) for completion in output.outputs])
        if output.finished:
            self.news.put(None)

    def fail(self, error: Exception) -> None:
        self.news.put(error)


class WorkerExtension:
    """What vLLM's workers can be asked for beside their own methods."""

    def remove_rendezvous(self) -> None:
        """Remove the temporary file by which the workers met; vLLM would leave one behind for every engine."""
        from torch import distributed

        store = distributed.distributed_c10d._get_default_store()
        while isinstance(store, distributed.PrefixStore):
            store = store.underlying_store
        if isinstance(store, distributed.FileStore):
            Path(store.path).unlink(missing_ok=True)  # type: ignore[attr-defined]  # its stub lacks it


class VLLMGenerator:
    """A vLLM engine with continuous batching: one thread steps it, callers wait for their own prompts only."""

    def __init__(self, config: Config, snapshot: Snapshot, stop_token_ids: list[int]) -> None:
        on_gpu = _environment()
        self._sleeps = on_gpu and config.placement == "colocated"
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        from sppo_ray.prompts.chat_template import load_tokenizer

        self._config = config
        self._tokenizer = load_tokenizer(snapshot.uri, config.policy.trust_remote_code)
        self._stop_token_ids = stop_token_ids
        self._snapshot = snapshot
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=snapshot.uri,
                dtype=config.policy.dtype,
                trust_remote_code=config.policy.trust_remote_code,
                max_model_len=config.policy.max_prompt_length + config.generation.max_new_tokens,
                tensor_parallel_size=config.generation.tensor_parallel,
                # Inside an actor vLLM would otherwise ask Ray for devices that the actor already holds.
                distributed_executor_backend="mp" if config.generation.tensor_parallel > 1 else None,
                gpu_memory_utilization=config.generation.gpu_memory_utilization,
                enforce_eager=not on_gpu,
                enable_sleep_mode=self._sleeps,
                worker_extension_cls=f"{__name__}.{WorkerExtension.__name__}",
                scheduling_policy="priority",
                seed=config.seed,
                disable_log_stats=True,
            ),
            # What tells vLLM to choose its limits for throughput: 256 or 1024 sequences at once, by the device, in place of 128.
            usage_context=UsageContext.LLM_CLASS,
        )
        self._engine.collective_rpc(WorkerExtension.remove_rendezvous.__name__)
        self._inbox: queue.SimpleQueue[_Request | _Chat | str | tuple[Callable[[], Any], Future[None]]] = (
            queue.SimpleQueue()
        )
        self._waiting: dict[str, _Request | _Chat] = {}
        self._count = 0
        self.busy_seconds = 0.0  # that the engine has stepped with requests in it
        self._failure: EngineFailed | None = None
        threading.Thread(target=self._serve, name="vllm-engine", daemon=True).start()

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        requests = [_Request(prompt, candidates, Future()) for prompt in prompts]
        for request in requests:
            self._inbox.put(request)
        done = [request.future.result() for request in requests]
        if any(candidate.snapshot != snapshot for candidate in done):
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {snapshot}")
        return done

    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        chat = _Chat(ask, name, queue.SimpleQueue())
        self._inbox.put(chat)
        while (news := chat.news.get()) is not None:
            if isinstance(news, Exception):
                raise news
            yield news

    def abort(self, name: str) -> None:
        self._inbox.put(name)

    def load(self, snapshot: Snapshot) -> None:
        self._between_requests(lambda: self._reload(snapshot))

    def sleep(self) -> None:
        if self._sleeps:  # vLLM has no sleep mode for a CPU, whose memory is not what engine and trainer compete for
            self._between_requests(lambda: self._engine.sleep(level=2))

    def wake(self) -> None:
        if self._sleeps:
            self._between_requests(lambda: self._engine.wake_up())

    def _between_requests(self, work: Callable[[], Any]) -> None:
        done: Future[None] = Future()
        self._inbox.put((work, done))
        done.result()

    def _reload(self, snapshot: Snapshot) -> None:
        self._engine.collective_rpc("reload_weights", kwargs={"weights_path": snapshot.uri})
        # Prefix blocks were computed by the old weights: drop them before the next request.
        self._engine.reset_prefix_cache()
        self._snapshot = snapshot

    def _serve(self) -> None:
        load: tuple[Callable[[], Any], Future[None]] | None = None
        while True:
            # What comes after a load waits for it: it is to be sampled from the loaded policy.
            while load is None and not (self._waiting and self._inbox.empty()):
                item = self._inbox.get()
                if isinstance(item, _Request | _Chat):
                    self._add(item)
                elif isinstance(item, str):
                    self._end(item)
                else:
                    load = item
            if self._waiting:
                started = time.perf_counter()
                self._step()
                self.busy_seconds += time.perf_counter() - started
            elif load is not None:
                self._call(*load)
                load = None

    def _step(self) -> None:
        try:
            outputs = self._engine.step()
        except Exception as error:
            # The engine is beyond repair: callers learn why, now and later, and the owner replaces it.
            self._failure = EngineFailed(f"{type(error).__name__}: {error}")
            for request in self._waiting.values():
                request.fail(self._failure)
            self._waiting.clear()
            return
        for output in outputs:
            request = self._waiting[output.request_id]
            if output.finished:
                del self._waiting[output.request_id]
            if isinstance(request, _Chat):
                request.take(output, self._snapshot.name)
            else:  # of which there is no output before it is finished
                request.future.set_result(self._candidates(request.prompt, output))

    @staticmethod
    def _call(function: Callable[[], Any], done: Future[None]) -> None:
        try:
            function()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _end(self, name: str) -> None:
        chat = self._waiting.pop(name, None)
        if isinstance(chat, _Chat):
            self._engine.abort_request([name])
            chat.news.put(None)

    def _add(self, request: _Request | _Chat) -> None:
        if self._failure is not None:
            request.fail(self._failure)
            return
        if isinstance(request, _Chat):
            name, ids, priority = request.name, request.ask.token_ids, PEOPLE
        else:
            self._count += 1
            name, ids, priority = str(self._count), request.prompt.token_ids, RUN
        self._waiting[name] = request
        try:
            parameters = self._parameters(request)
            self._engine.add_request(name, {"prompt_token_ids": ids}, parameters, priority=priority)
        except Exception as error:  # what one request is refused for, and no other has to hear of
            del self._waiting[name]
            request.fail(error)

    def _parameters(self, request: _Request | _Chat) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if isinstance(request, _Chat):
            ask = request.ask
            return SamplingParams(
                n=ask.n,
                temperature=ask.temperature,
                top_p=ask.top_p,
                max_tokens=ask.max_tokens,
                stop=list(ask.stop),
                seed=ask.seed,
                logprobs=ask.logprobs,
                stop_token_ids=self._stop_token_ids,
                output_kind=RequestOutputKind.DELTA,
            )
        sampling = self._config.generation
        return SamplingParams(
            n=request.candidates,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            stop_token_ids=self._stop_token_ids,
            logprobs=0,  # of the sampled token only; raw, before temperature and top-p
            flat_logprobs=True,
            detokenize=False,  # token by token; `_text` does it at once
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _candidates(self, prompt: Prompt, output: Any) -> Candidates:
        completions = output.outputs
        return Candidates(
            prompt_id=prompt.prompt_id,
            prompt=prompt.text,
            prompt_token_ids=prompt.token_ids,
            responses=[self._text(completion) for completion in completions],
            token_ids=[list(completion.token_ids) for completion in completions],
            logprobs=[list(completion.logprobs.logprobs) for completion in completions],
            finish_reasons=[completion.finish_reason for completion in completions],
            snapshot=self._snapshot.name,
        )

    def _text(self, completion: Any) -> str:
        """The response without the token that ended it."""
        ids = completion.token_ids[:-1] if completion.finish_reason == "stop" else completion.token_ids
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _environment() -> bool:
    """Set what vLLM reads from the environment, before it is imported; the user's own values win. True on a GPU."""
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        # In the actor's own process: a child engine process takes ten times as long to start on a CPU.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    return on_gpu
