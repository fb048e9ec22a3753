"""Short greedy answers of a chat model on vLLM, with the most likely tokens at each position: for a judge that is asked.

In: questions as token ids. Out: `ShortAnswer`s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from textwrap import shorten
from threading import Lock
from typing import Any

from sppo_ray.errors import EngineFailed, ModelError
from sppo_ray.sampling.environment import set_environment

CACHE_BYTES = 4 << 30  # of keys and values on a GPU: questions are read once and answered in a word
LEAST_SHARE = 0.01  # of a GPU, which vLLM wants to find free; what it takes follows from the model and CACHE_BYTES


@dataclass(frozen=True)
class ShortAnswer:
    """tokens: at each position the most likely ones with their raw log-probabilities.  written: how many tokens it has."""

    text: str
    tokens: list[list[tuple[str, float]]]
    written: int


class ShortAnswers:
    """A vLLM engine for one call at a time: a call's questions share the batch, and the cache of what they begin with.

    most: tokens of an answer.  top: most likely tokens at each of its positions.
    Weights are bfloat16 on a GPU, float32 on a CPU. Raises `ModelError` for a model that vLLM cannot run.
    """

    def __init__(self, model: str, device: str, tensor_parallel: int, most: int, top: int) -> None:
        set_environment()
        self._on_gpu = device != "cpu"
        from vllm import LLM, SamplingParams

        from sppo_ray.sampling.actor_engine import actor_settings, own

        on_gpu: dict[str, Any] = {
            "kv_cache_memory_bytes": CACHE_BYTES,
            "gpu_memory_utilization": LEAST_SHARE,
            "enable_sleep_mode": True,
        }
        try:
            self._engine = LLM(
                model,
                dtype="bfloat16" if self._on_gpu else "float32",
                max_model_len=-1,  # the model's context, or what the cache holds
                enable_prefix_caching=True,
                enforce_eager=not self._on_gpu,
                **actor_settings(tensor_parallel),
                **(on_gpu if self._on_gpu else {}),
            )
        except ValueError as error:  # no later try can help
            raise ModelError(f"judge.model: vLLM cannot run {model}: {shorten(str(error), 300)}") from error
        self._failures: list[EngineFailed] = []
        own(self._engine.llm_engine, self._failures.append)
        # vLLM decodes each of the most likely tokens anew, which took a third of the time of a small model's answers.
        self._parameters = SamplingParams(temperature=0, max_tokens=most, logprobs=top, detokenize=False)
        self._decode: Any = self._engine.get_tokenizer().decode
        self._token = cache(lambda number: str(self._decode([number])))
        self.longest: int = self._engine.model_config.max_model_len - most  # tokens of a question
        self._one_call = Lock()

    def answer(self, questions: Sequence[list[int]]) -> list[ShortAnswer]:
        """Raises `EngineFailed` once the engine is beyond repair."""
        with self._one_call:
            if self._failures:
                raise self._failures[0]
            try:
                asked = [{"prompt_token_ids": ids} for ids in questions]
                outputs = self._engine.generate(asked, self._parameters, use_tqdm=False)  # type: ignore[arg-type]
            except Exception as error:
                self._failures.append(EngineFailed(f"{type(error).__name__}: {error}"))
                raise self._failures[0] from error
        return [
            ShortAnswer(
                self._decode(answer.token_ids, skip_special_tokens=True),
                [
                    [(self._token(number), token.logprob) for number, token in position.items()]
                    for position in answer.logprobs or []
                ],
                len(answer.token_ids),
            )
            for answer in (output.outputs[0] for output in outputs)
        ]

    def sleep(self) -> None:
        if self._on_gpu:  # vLLM has no sleep mode for a CPU
            with self._one_call:
                self._engine.sleep(level=1)

    def wake(self) -> None:
        if self._on_gpu:
            with self._one_call:
                self._engine.wake_up()
