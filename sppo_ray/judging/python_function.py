"""The judge kind `python`: a user's function that scores the responses to one prompt.

In: `judge.model=package.module:function`; the function takes a prompt and its responses and returns one score for each.
Out: c[i, j] = (s_i - s_j) / 2, so that at temperature 1 both estimators make it P[i, j] = sigmoid(s_i - s_j).
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import JudgeError
from sppo_ray.judging.judge import Demand, Judge
from sppo_ray.loading import load_object

Scores = Callable[[str, list[str]], Sequence[float]]


class PythonKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._name = settings.model

    def check(self) -> None:
        load_object(self._name, "judge.model")

    def load(self, device: str) -> Judge:
        return PythonJudge(self._name, load_object(self._name, "judge.model"))

    def description(self) -> str:
        return "a Python function that scores responses"

    def demand(self, prompt: int, response: int) -> Demand:
        # What the function computes is not known: the plan counts next to nothing, `plan --probe` measures it.
        return Demand(memory={}, tokens=prompt + 2 * response, operations=1)


class PythonJudge:
    """A function as a judge. Raises `JudgeError` naming function and prompt where it fails or returns no scores."""

    def __init__(self, name: str, function: Scores) -> None:
        self._name, self._function = name, function

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        scores = np.array([self._scores(*one) for one in zip(prompts, candidates, strict=True)], dtype=np.float32)
        return (scores[:, :, None] - scores[:, None, :]) / np.float32(2)

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return np.zeros(len(prompts), dtype=np.float32)

    def sleep(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def _scores(self, prompt: str, responses: Sequence[str]) -> NDArray[np.float64]:
        where = f"judge.model={self._name}, prompt {prompt[:80]!r}"
        try:
            scores = np.asarray(self._function(prompt, list(responses)), dtype=np.float64)
        except Exception as error:
            raise JudgeError(f"{where}: {type(error).__name__}: {error}") from error
        if scores.shape != (len(responses),) or not np.isfinite(scores).all():
            raise JudgeError(f"{where}: expected {len(responses)} finite scores, it returned {scores.tolist()}")
        return scores
