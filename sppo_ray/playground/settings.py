"""What a playground is made from.

In: numbers. Out: a frozen record that names a cache folder and travels to the two training processes as JSON.
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PlaygroundSettings:
    seed: int = 0
    prompts: int = 220  # an iteration
    iterations: int = 3
    held_out: int = 165
    policy_steps: int = 400
    word_steps: int = 400  # of the judge: masked words of right answers
    replaced_steps: int = 400  # of the judge: which words were replaced, is the answer right
    pair_steps: int = 600  # of the judge: which of two answers is better

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "PlaygroundSettings":
        return PlaygroundSettings(**json.loads(text))
