"""The settings of a judge.

In: the section `judge` of a configuration, or `evaluation.judge`. Out: a frozen `JudgeSettings`.
"""

from typing import Annotated, Literal

from pydantic import model_validator

from sppo_ray.config.values import FREE, NotNegativeFloat, Positive, PositiveFloat, Section
from sppo_ray.preference import Estimator


class TokenPrice(Section):
    """What an endpoint charges per million tokens, in US dollars."""

    input: NotNegativeFloat
    """For what the judge reads."""
    output: NotNegativeFloat
    """For what it writes."""


class JudgeSettings(Section):
    """What compares the responses, and how its comparisons become win rates."""

    kind: str = "pairrm"
    """`pairrm`, `reward` (a sequence classifier with one label), `llm` (a chat model that is asked), `python` (a function), or `package.module:Class` of your own."""
    model: str
    """pairrm, reward: the model's folder or hub name, or `playground`; llm: its folder or hub name, or its name at the endpoint; python: `package.module:function`, or `playground`."""
    estimator: Estimator = "pairwise"
    """How comparisons become win rates: `pairwise` as in the paper, `pooled` as in the authors' release."""
    temperature: PositiveFloat = 1.0
    """Divides the comparison logits before the sigmoid: 1 as published, 2 for PairRM's calibrated probabilities."""
    source_max_length: Positive = 1224
    """pairrm: tokens of the prompt that the judge reads."""
    candidate_max_length: Positive = 412
    """pairrm: tokens of each response that the judge reads; what a short prompt leaves free is added."""
    orders: Literal[1, 2] = 2
    """pairrm, llm: 2 compares every pair in both orders, which shows the bias for a place; 1 in one random order, half the work."""
    batch_tokens: Annotated[Positive, FREE] = 32768
    """pairrm, reward: tokens per forward pass, padding included."""
    endpoint: Annotated[str | None, FREE] = None
    """llm: URL of an OpenAI-compatible endpoint, such as `https://api.openai.com/v1`; null: the rankers hold the model, on vLLM."""
    tensor_parallel: Annotated[Positive, FREE] = 1
    """llm without an endpoint: GPUs that hold the model together, those of a ranker (`rankers.gpus`)."""
    api_key_env: Annotated[str | None, FREE] = None
    """llm: environment variable with the endpoint's key, set where the run is started and on every node with rankers; null for no key."""
    prompt: str | None = None
    """llm: file with the question, in place of the packaged one; `{prompt}`, `{response_a}` and `{response_b}` stand for the texts."""
    requests: Annotated[Positive, FREE] = 32
    """llm: questions in flight at the endpoint, per ranker."""
    price: Annotated[TokenPrice | None, FREE] = None
    """llm: what the endpoint charges, for the cost in plan and report."""
    budget: Annotated[PositiveFloat | None, FREE] = None
    """llm: US dollars that the run may spend on this judge; then it pauses. Needs `price`."""

    @model_validator(mode="after")
    def _priced(self) -> "JudgeSettings":
        if self.budget is not None and self.price is None:
            raise ValueError("budget needs price: set price.input and price.output, US dollars per million tokens")
        return self
