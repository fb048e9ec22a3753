"""The LLM as a judge, wherever it is served.

In: prompts and K responses to each, plain text. Out: c[i, j] = log odds that response i, shown as A, is better than response j.
"""

from collections.abc import Sequence
from itertools import product
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from sppo_ray.config import JudgeSettings
from sppo_ray.judging.judge import Usage, WithoutDevice
from sppo_ray.judging.llm.question import question, read_template
from sppo_ray.judging.orders import both_orders, to_compare


class LLMJudge(WithoutDevice):
    """Asks each question once: equal ones share their answer, and equal responses are a tie without a question."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._template = read_template(settings.prompt)
        self.usage = Usage()
        self._counting = Lock()

    def ask(self, questions: Sequence[str]) -> Sequence[float]:
        """Log odds that response A is better, one per question; NaN for an answer that is no verdict."""
        raise NotImplementedError

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        wanted = to_compare(prompts, candidates, self._settings.orders)
        asked = {
            (n, i, j): question(self._template, prompt, texts[i], texts[j])
            for n, (prompt, texts) in enumerate(zip(prompts, candidates, strict=True))
            for i, j in product(range(len(texts)), repeat=2)
            if wanted[n, i, j] and texts[i] != texts[j]
        }
        distinct = list(dict.fromkeys(asked.values()))
        found = dict(zip(distinct, self.ask(distinct), strict=True))
        logits = np.zeros(wanted.shape, dtype=np.float32)
        for place, words in asked.items():
            logits[place] = found[words]
        return both_orders(logits, wanted)

    def _count(self, **more: float) -> None:
        with self._counting:
            for name, value in more.items():
                setattr(self.usage, name, getattr(self.usage, name) + value)
