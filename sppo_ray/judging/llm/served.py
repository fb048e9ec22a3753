"""An LLM that the judges' pool serves itself, on vLLM.

In: questions. Out: logits of its verdicts, and counts of what they used.
"""

from collections.abc import Sequence
from math import isnan, nan

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError, ModelError, PromptError
from sppo_ray.judging.llm.judge import LLMJudge
from sppo_ray.judging.llm.question import EXAMPLE, question, read_template
from sppo_ray.judging.llm.verdict import MOST_TOKENS, verdict_logit
from sppo_ray.models import model_shape
from sppo_ray.prompts import chat_template
from sppo_ray.sampling import ShortAnswers

KEY = "judge.model"
TOP_TOKENS = 20  # as many as endpoints give
ENDPOINTS_OWN = ("api_key_env", "price", "budget")


class ServedJudge(LLMJudge):
    """A question that is longer than the model's context, or that its chat template refuses, has no verdict."""

    def __init__(self, settings: JudgeSettings, device: str) -> None:
        super().__init__(settings)
        self._encoder = read_encoder(settings)
        self._answers = ShortAnswers(settings.model, device, settings.tensor_parallel, MOST_TOKENS, TOP_TOKENS)

    def ask(self, questions: Sequence[str]) -> list[float]:
        ids = [self._ids(words) for words in questions]
        known = [one for one in ids if one is not None]
        answers = self._answers.answer(known)
        logits = [verdict_logit(answer.text, answer.tokens) for answer in answers]
        self._count(
            questions=len(ids),
            refused=len(ids) - len(known),
            unreadable=sum(map(isnan, logits)),
            input_tokens=sum(map(len, known)),
            output_tokens=sum(answer.written for answer in answers),
        )
        found = iter(logits)
        return [nan if one is None else next(found) for one in ids]

    def sleep(self) -> None:
        self._answers.sleep()

    def wake(self) -> None:
        self._answers.wake()

    def _ids(self, words: str) -> list[int] | None:
        try:
            ids = self._encoder.ids([{"role": "user", "content": words}])
        except PromptError:
            return None
        return ids if len(ids) <= self._answers.longest else None


def read_encoder(settings: JudgeSettings) -> chat_template.ChatEncoder:
    """The model's chat template. Raises `ModelError` or `ConfigError` for a model or settings that cannot be used."""
    for name in ENDPOINTS_OWN:
        if getattr(settings, name) is not None:
            raise ConfigError(
                f"judge.{name} belongs to an endpoint, and judge.endpoint is not set: set it, or leave out the first"
            )
    try:
        encoder = chat_template.ChatEncoder(chat_template.load_tokenizer(settings.model, key=KEY))
    except ModelError as error:
        raise ModelError(f"{error}; or set judge.endpoint, where an endpoint has the model of that name") from None
    heads, parallel = model_shape(settings.model, KEY).heads, settings.tensor_parallel
    if heads % parallel:
        raise ConfigError(
            f"judge.tensor_parallel={parallel} does not divide the {heads} attention heads of {KEY}={settings.model}: "
            "choose a divisor"
        )
    try:
        encoder.ids([{"role": "user", "content": question(read_template(settings.prompt), *EXAMPLE)}])
    except PromptError as error:
        raise ModelError(
            f"{KEY}={settings.model}: its chat template refuses a question ({error}): correct it"
        ) from None
    return encoder
