"""Thoughts of a policy: what it writes before its answer, for itself.

In: a response and the pattern of a thought (`policy.thoughts`). Out: the answer, which is what a judge compares. Responses
are stored and trained whole.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from sppo_ray.records import Candidates


def answer(response: str, thoughts: str | None) -> str:
    """The response without its thought. No pattern, or no thought: the response itself."""
    return re.sub(thoughts, "", response, count=1) if thoughts else response


def answers(rows: Sequence[Candidates], thoughts: str | None) -> list[Candidates]:
    """The candidates with answers in place of responses."""
    return [replace(row, responses=[answer(text, thoughts) for text in row.responses]) for row in rows]
