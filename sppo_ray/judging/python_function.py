"""The judge kind `python`: a user's function that scores the responses to one prompt, or compares them.

In: `judge.model=package.module:function`; the function takes a prompt and its K responses and returns one score for each,
or a K x K matrix of the probabilities that response i beats response j.
Out: logits that both estimators, at temperature 1, make these probabilities, or P[i, j] = sigmoid(s_i - s_j) of scores.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import JudgeError
from sppo_ray.judging.judge import Demand, Judge, WithoutDevice
from sppo_ray.judging.scores import log_odds, score_logits
from sppo_ray.loading import load_object

Function = Callable[[str, list[str]], ArrayLike]


class PythonKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._name = settings.model

    def check(self) -> None:
        load_object(self._name, "judge.model")

    def load(self, device: str) -> Judge:
        return PythonJudge(self._name, load_object(self._name, "judge.model"))

    def description(self) -> str:
        return "a Python function"

    def demand(self, prompt: int, response: int) -> Demand:
        # What the function computes is not known: the plan counts next to nothing, `plan --probe` measures it.
        return Demand(memory={}, tokens=prompt + response, operations=1, each="response")


class PythonJudge(WithoutDevice):
    """A function as a judge. Raises `JudgeError` naming function and prompt where it fails or returns something else."""

    def __init__(self, name: str, function: Function) -> None:
        self._name, self._function = name, function

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        each = len(candidates[0]) if candidates else 0
        logits = np.zeros((len(prompts), each, each), dtype=np.float32)
        for row, (prompt, responses) in enumerate(zip(prompts, candidates, strict=True)):
            logits[row] = self._logits(prompt, responses)
        return logits

    def _logits(self, prompt: str, responses: Sequence[str]) -> NDArray[np.float32]:
        where, each = f"judge.model={self._name}, prompt {prompt[:80]!r}", len(responses)
        try:
            found = np.asarray(self._function(prompt, list(responses)), dtype=np.float64)
        except Exception as error:
            raise JudgeError(f"{where}: {type(error).__name__}: {error}") from error
        if found.shape not in ((each,), (each, each)):
            raise JudgeError(
                f"{where}: expected {each} scores or a {each} x {each} matrix, it returned {found.tolist()}"
            )
        if found.ndim == 1:
            if not np.isfinite(found).all():
                raise JudgeError(f"{where}: expected {each} finite scores, it returned {found.tolist()}")
            return score_logits(found)
        if not ((found >= 0) & (found <= 1)).all():
            raise JudgeError(f"{where}: expected probabilities between 0 and 1, it returned {found.tolist()}")
        logits = log_odds(found) / 2
        np.fill_diagonal(logits, 0)
        return logits.astype(np.float32)
