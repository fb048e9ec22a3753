"""Settings of the playground.

In: numbers. Out: a frozen record, which is part of the cache key and is passed to the training processes as JSON.
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PlaygroundSettings:
    seed: int = 0
    prompts: int = 220  # per iteration
    iterations: int = 3
    held_out: int = 165
    policy_steps: int = 400
    word_steps: int = 400  # judge: predict masked words of right answers
    replaced_steps: int = 400  # judge: detect replaced words and right answers
    pair_steps: int = 600  # judge: choose the better of two answers
    reward_steps: int = 300  # reward model, which is trained when a run first asks for it

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "PlaygroundSettings":
        return PlaygroundSettings(**json.loads(text))
