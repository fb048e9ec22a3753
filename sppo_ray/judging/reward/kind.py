"""The judge kind `reward`: what a run must know about a reward model before it is loaded.

In: the `judge` section of the configuration. Out: checks, a description, its demand on a device, the judge itself.
"""

from dataclasses import replace

from sppo_ray.config import JudgeSettings
from sppo_ray.judging.judge import Demand, Judge
from sppo_ray.judging.reward.judge import RewardModel
from sppo_ray.models import model_shape

SIZE = 2  # bytes per number: bfloat16


class RewardKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        # Imported here so that naming a judge does not load transformers.
        from sppo_ray.judging.reward.checkpoint import read_checkpoint

        read_checkpoint(self._settings.model)

    def load(self, device: str) -> Judge:
        return RewardModel(self._settings.model, device, self._settings.batch_tokens)

    def description(self) -> str:
        return "a reward model that scores each response"

    def demand(self, prompt: int, response: int) -> Demand:
        shape = model_shape(self._settings.model, "judge.model")
        tokens = min(prompt + response, shape.context)
        batch = max(self._settings.batch_tokens, tokens)
        memory: dict[str, float] = {
            "weights": SIZE * replace(shape, tied=True).parameters,  # no matrix for the logits of words
            "activations": SIZE * batch * (6 * shape.hidden + (3 if shape.gated else 2) * shape.intermediate),
        }
        if shape.capped:  # eager attention holds the scores, and their softmax in float32
            memory["scores"] = (2 * SIZE + 4) * batch * tokens * shape.heads
        return Demand(memory, tokens, operations=2 * shape.layers * shape.layer, each="response")
