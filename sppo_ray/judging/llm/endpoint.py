"""An LLM behind an OpenAI-compatible endpoint.

In: questions. Out: logits of its verdicts, and counts of what they used.
The client library repeats what fails, with back-off and as `Retry-After` says. A question that still fails while the
endpoint answers another one has no verdict; an endpoint that answers none is unavailable.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isnan, nan
from typing import Any

import openai

from sppo_ray.config import JudgeSettings, on_this_machine
from sppo_ray.errors import ConfigError, JudgeUnavailable, one_line
from sppo_ray.judging.llm.judge import LLMJudge
from sppo_ray.judging.llm.question import EXAMPLE, question
from sppo_ray.judging.llm.verdict import MOST_TOKENS, Tokens, verdict_logit

RETRIES = 8  # of a request; about 40 s of back-off
SECONDS = 60.0  # for an answer
TOP_TOKENS = (20, 5, 0)  # how many of the most likely tokens to ask for: endpoints differ in how many they give


class EndpointJudge(LLMJudge):
    """Raises `ConfigError` without its key, `JudgeUnavailable` while the endpoint does not answer."""

    def __init__(self, settings: JudgeSettings, retries: int = RETRIES, seconds: float = SECONDS) -> None:
        super().__init__(settings)
        assert settings.endpoint is not None
        self._key = api_key(settings)
        self._retries = retries
        proxies = not on_this_machine(settings.endpoint)
        self._client = openai.OpenAI(
            base_url=settings.endpoint,
            api_key=self._key or "none",
            max_retries=retries,
            timeout=seconds,
            http_client=openai.DefaultHttpxClient(trust_env=proxies, timeout=seconds),
        )
        self._tops: tuple[int, ...] = TOP_TOKENS
        self._renamed = False  # max_tokens, which OpenAI's newer models refuse and most other servers know alone
        self._threads = ThreadPoolExecutor(settings.requests, thread_name_prefix="judge")

    def ask(self, questions: Sequence[str]) -> list[float]:
        self._count(questions=len(questions))
        return list(self._threads.map(self._logit, questions))

    def check(self) -> None:
        """Ask one question. Raises `ConfigError` with what the endpoint says if there is no verdict."""
        where = f"judge.endpoint={self._settings.endpoint}, judge.model={self._settings.model}"
        try:
            answer = self._read(self._request(question(self._template, *EXAMPLE)))
        except openai.APIError as error:
            raise ConfigError(f"{where}: {self._words(error)}: correct the settings, or try again later") from None
        text, positions = answer or ("", [])
        if isnan(verdict_logit(text, positions)):
            raise ConfigError(
                f"{where} answered {text!r} where a letter was asked for, A, B or C: name a chat model that answers at "
                "once, or write another question (judge.prompt)"
            )
        if self._settings.price is not None and not self.usage.input_tokens:
            raise ConfigError(f"{where} does not say how many tokens it reads: leave out judge.price")

    def _logit(self, words: str) -> float:
        try:
            answer = self._read(self._request(words))
        except openai.APIError as error:
            self._check_answers(error)
            self._count(refused=1)
            return nan
        logit = nan if answer is None else verdict_logit(*answer)
        self._count(unreadable=int(isnan(logit)))
        return logit

    def _check_answers(self, error: Exception) -> None:
        """Raise `JudgeUnavailable`, with the error of another question, unless the endpoint answers the example."""
        try:
            self._request(question(self._template, *EXAMPLE))
        except openai.APIError:
            raise JudgeUnavailable(
                f"the judge at judge.endpoint={self._settings.endpoint} does not answer: {self._words(error)}"
            ) from None

    def _request(self, words: str) -> Any:
        """The raw response, with as many of the most likely tokens as the endpoint gives."""
        renamed = self._renamed
        for place, top in enumerate(self._tops):
            try:
                response = self._client.chat.completions.with_raw_response.create(
                    model=self._settings.model,
                    messages=[{"role": "user", "content": words}],
                    temperature=0,
                    max_tokens=openai.omit if renamed else MOST_TOKENS,
                    max_completion_tokens=MOST_TOKENS if renamed else openai.omit,
                    logprobs=True if top else openai.omit,
                    top_logprobs=top or openai.omit,
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not renamed and "max_completion_tokens" in str(error):
                    self._renamed = True
                    return self._request(words)
                if top == self._tops[-1]:
                    raise
            except openai.APIError as error:
                self._count(retries=self._repeated(error))
                raise
            else:
                self._tops = self._tops[place:]
                self._count(retries=response.retries_taken)
                return response

    def _read(self, response: Any) -> tuple[str, list[Tokens]] | None:
        """Text and most likely tokens of an answer, whose tokens are counted; None for what is no answer of this protocol."""
        try:
            answer = response.parse()
            choice = answer.choices[0]
            text, logprobs = choice.message.content or "", (choice.logprobs and choice.logprobs.content) or []
            positions = [[(token.token, token.logprob) for token in one.top_logprobs] for one in logprobs]
        except (openai.APIError, ValueError, TypeError, AttributeError, LookupError):
            return None
        if answer.usage is not None:
            read, written, price = answer.usage.prompt_tokens, answer.usage.completion_tokens, self._settings.price
            usd = (read * price.input + written * price.output) / 1e6 if price else 0.0
            self._count(input_tokens=read, output_tokens=written, usd=usd)
        return text, [tokens for tokens in positions if tokens]

    def _repeated(self, error: Exception) -> int:
        """How often the client has sent a request that failed for good."""
        status = getattr(error, "status_code", 500)
        passing = isinstance(error, openai.APIConnectionError) or status in (408, 409, 429) or status >= 500
        return self._retries if passing else 0

    def _words(self, error: Exception) -> str:
        words = one_line(error)
        return words.replace(self._key, "...") if self._key else words


def api_key(settings: JudgeSettings) -> str:
    """The endpoint's key from the environment, empty where none is named. Raises `ConfigError` naming a variable that is not set."""
    name = settings.api_key_env
    if name and not os.environ.get(name):
        raise ConfigError(
            f"judge.api_key_env={name}: this variable is not set in the environment of {os.uname().nodename}: export it "
            "where the run is started and on every node with rankers"
        )
    return os.environ[name] if name else ""
