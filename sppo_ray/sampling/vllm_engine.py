"""Sampling: K responses to each prompt, with the raw log-probability of every sampled token; and answers to people.

In: `Prompt`s or a `ChatRequest`. Out: `Candidates`, stamped with the snapshot they came from, or `TokenDelta`s as they are sampled.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from textwrap import shorten
from typing import Any

from sppo_ray.config import Config
from sppo_ray.errors import EngineFailed, ModelError, SnapshotMismatch
from sppo_ray.records import Candidates, ChatRequest, Progress, Prompt, Snapshot, TokenDelta
from sppo_ray.sampling.environment import set_environment
from sppo_ray.sampling.requests import Chat, Request, Scoring

COUNT_SECONDS = 0.5  # between counts of the tokens so far
PEOPLE, RUN = -1, 0  # priorities of requests: the lower goes first


class VLLMGenerator:
    """A vLLM engine with continuous batching: one thread steps it, callers wait for their own prompts only."""

    def __init__(self, config: Config, snapshot: Snapshot, stop_token_ids: list[int]) -> None:
        self._config, self._snapshot, self._stop_token_ids = config, snapshot, stop_token_ids
        self._failure: EngineFailed | None = None
        self._inbox: queue.SimpleQueue[Request | Scoring | Chat | str | tuple[Callable[[], Any], Future[None]]] = (
            queue.SimpleQueue()
        )
        self._waiting: dict[str, Request | Scoring | Chat] = {}
        self._count = 0
        self._sampled = 0  # tokens of finished requests of the run
        self._progress, self._counted = Progress(0, 0), 0.0
        self.busy_seconds = 0.0  # that the engine has stepped with requests in it
        built: Future[None] = Future()
        threading.Thread(target=self._serve, args=(built,), name="vllm-engine", daemon=True).start()
        built.result()

    def _build(self) -> None:
        config, snapshot = self._config, self._snapshot
        on_gpu = set_environment()
        self._sleeps = on_gpu and config.placement == "colocated"
        from vllm import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        from sppo_ray.prompts.chat_template import hidden_tokens, load_tokenizer
        from sppo_ray.run_folder.adapters import adapter_rank, base_of
        from sppo_ray.sampling.actor_engine import actor_settings, own
        from sppo_ray.sampling.adapter_slot import AdapterSlot, room_for
        from sppo_ray.sampling.loaded_weights import LoadedWeights

        self._tokenizer = load_tokenizer(base_of(snapshot.uri), config.policy.trust_remote_code)
        self._hidden = hidden_tokens(self._tokenizer, config.policy.thoughts)
        scoring = bool(config.training.other_anchors(config.iterations))  # what vLLM scores has one more token sampled
        rank = max(config.training.adapter.rank, adapter_rank(snapshot.uri))
        if rank and not on_gpu:
            from sppo_ray.sampling import one_adapter

            one_adapter.use()
        arguments = EngineArgs(
            model=base_of(snapshot.uri),
            dtype=config.policy.dtype,
            trust_remote_code=config.policy.trust_remote_code,
            max_model_len=config.policy.max_prompt_length + config.generation.max_new_tokens + scoring,
            gpu_memory_utilization=config.generation.gpu_memory_utilization,
            max_num_seqs=config.generation.max_sequences,
            enforce_eager=not on_gpu,
            enable_sleep_mode=self._sleeps,
            scheduling_policy="priority",
            seed=config.seed,
            **actor_settings(config.generation.tensor_parallel),
            **room_for(rank),
        )
        # So vLLM chooses its limits for throughput: 256 or 1024 sequences at once, by the device, instead of 128.
        usage = UsageContext.LLM_CLASS
        try:
            settings = arguments.create_engine_config(usage)
        except ValueError as error:  # no later try can help
            why = shorten(str(error), 300)  # vLLM may list all models that it knows
            raise ModelError(f"policy.model: vLLM cannot run {snapshot.uri}: {why}") from error
        self._engine = LLMEngine.from_vllm_config(settings, usage, disable_log_stats=True)
        own(self._engine, self._fail)
        self._adapters = AdapterSlot(self._engine, snapshot, config.policy.dtype) if rank else None
        whole = Snapshot(0, base_of(snapshot.uri)) if rank else snapshot
        self._weights = LoadedWeights(self._engine.collective_rpc, whole, config.policy.dtype)

    @property
    def snapshot(self) -> Snapshot:
        return self._snapshot

    def generate(self, prompts: list[Prompt], candidates: int, snapshot: str) -> list[Candidates]:
        requests = [Request(prompt, candidates, Future()) for prompt in prompts]
        for request in requests:
            self._inbox.put(request)
        done = [request.future.result() for request in requests]
        if any(candidate.snapshot != snapshot for candidate in done):
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {snapshot}")
        return done

    def logprobs(self, sequences: list[tuple[list[int], int]], snapshot: str) -> list[list[float]]:
        requests = [Scoring(token_ids, start, Future()) for token_ids, start in sequences]
        for request in requests:
            self._inbox.put(request)
        found = [request.future.result() for request in requests]
        self._check_snapshot(snapshot)
        return found

    def _check_snapshot(self, name: str) -> None:
        if self._snapshot.name != name:
            raise SnapshotMismatch(f"the generator holds {self._snapshot.name}, the work asks for {name}")

    def chat(self, ask: ChatRequest, name: str) -> Iterator[list[TokenDelta]]:
        chat = Chat(ask, name, queue.SimpleQueue())
        self._inbox.put(chat)
        while (news := chat.news.get()) is not None:
            if isinstance(news, Exception):
                raise news
            yield news

    def abort(self, name: str) -> None:
        self._inbox.put(name)

    def progress(self) -> Progress:
        if self._failure is not None:
            raise self._failure
        return self._progress

    def load(self, snapshot: Snapshot) -> None:
        self._between_requests(lambda: self._reload(snapshot))

    def sleep(self) -> None:
        if self._sleeps:  # vLLM has no sleep mode for a CPU, whose memory is not what engine and trainer compete for
            self._between_requests(lambda: self._engine.sleep(level=1 if self._adapters else 2))

    def wake(self) -> None:
        if self._sleeps:
            self._between_requests(lambda: self._engine.wake_up())

    def _between_requests(self, work: Callable[[], Any]) -> None:
        done: Future[None] = Future()
        self._inbox.put((work, done))
        done.result()

    def _reload(self, snapshot: Snapshot) -> None:
        if self._adapters is None:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_path": snapshot.uri})
            self._weights.check(snapshot)
        else:
            self._adapters.load(snapshot)
        # Prefix blocks were computed by the old weights: drop them before the next request.
        if not self._engine.reset_prefix_cache():
            raise EngineFailed(
                f"vLLM could not drop the prefix cache of {self._snapshot.name}: some of it is still in use"
            )
        self._snapshot = snapshot

    def _serve(self, built: Future[None]) -> None:
        # OpenMP has threads of its own for each thread that computes. Where they are more than the CPUs, those of a CPU's
        # engine sleep and wake in every operation, so the thread that steps the engine builds it, too.
        self._call(self._build, built)
        if built.exception():
            return
        load: tuple[Callable[[], Any], Future[None]] | None = None
        while True:
            # Requests that come after a load wait for it: they are sampled from the loaded policy.
            while load is None and not (self._waiting and self._inbox.empty()):
                item = self._inbox.get()
                if isinstance(item, Request | Scoring | Chat):
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
            failure = self._fail(EngineFailed(f"{type(error).__name__}: {error}"))
            for request in self._waiting.values():
                request.fail(failure)
            self._waiting.clear()
            return
        for output in outputs:
            request = self._waiting[output.request_id]
            if output.finished:
                del self._waiting[output.request_id]
            if isinstance(request, Chat):
                request.take(output, self._snapshot.name)
            elif isinstance(request, Scoring):
                request.take(output)
            else:  # FINAL_ONLY: it has no output before it is finished
                self._sampled += request.take(output, self._snapshot.name, self._text)
        # Now and then: vLLM's own statistics would cost time in every step.
        if not self._waiting or time.monotonic() - self._counted > COUNT_SECONDS:
            self._progress, self._counted = self._count_tokens(), time.monotonic()

    def _fail(self, failure: EngineFailed) -> EngineFailed:
        """The engine is beyond repair: callers learn why, now and later, and the owner replaces it."""
        self._failure = self._failure or failure
        return self._failure

    def _count_tokens(self) -> Progress:
        states: list[Any] = list(self._engine.output_processor.request_states.values())
        run = [state for state in states if isinstance(self._waiting.get(state.external_req_id), Request)]
        tokens = sum(state.detokenizer.num_output_tokens() for state in run)
        for parent in {state.parent_req for state in run if state.parent_req}:  # its responses that have ended
            tokens += sum(len(response.token_ids) for response in parent.output_aggregator if response)
        return Progress(self._sampled + tokens, len(states))

    @staticmethod
    def _call(function: Callable[[], Any], done: Future[None]) -> None:
        try:
            function()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _end(self, name: str) -> None:
        chat = self._waiting.pop(name, None)
        if isinstance(chat, Chat):
            self._engine.abort_request([name])
            self._progress = self._count_tokens()
            chat.news.put(None)

    def _add(self, request: Request | Scoring | Chat) -> None:
        if self._failure is not None:
            request.fail(self._failure)
            return
        if isinstance(request, Chat):
            name, ids, priority = request.name, request.ask.token_ids, PEOPLE
        else:
            self._count += 1
            name, priority = str(self._count), RUN
            ids = request.token_ids if isinstance(request, Scoring) else request.prompt.token_ids
        self._waiting[name] = request
        try:
            parameters = self._parameters(request)
            lora = self._adapters.request if self._adapters else None
            self._engine.add_request(name, {"prompt_token_ids": ids}, parameters, priority=priority, lora_request=lora)
        except Exception as error:  # vLLM refuses this request, and no other
            del self._waiting[name]
            request.fail(error)

    def _parameters(self, request: Request | Scoring | Chat) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if isinstance(request, Chat):
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
        if isinstance(request, Scoring):
            return SamplingParams(  # at least one token has to be sampled
                max_tokens=1,
                prompt_logprobs=0,
                flat_logprobs=True,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
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

    def _text(self, completion: Any) -> str:
        """The response without the token that ended it."""
        ids = completion.token_ids[:-1] if completion.finish_reason == "stop" else completion.token_ids
        shown = [number for number in ids if number not in self._hidden]
        return str(self._tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False))
