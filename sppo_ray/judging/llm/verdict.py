"""The verdict in an LLM's answer: A or B for the better response, C for a tie.

In: the answer's text and, where they are known, the most likely tokens at each of its positions. Out: a logit.
"""

import re
from collections.abc import Sequence
from math import exp, nan

from sppo_ray.judging.scores import log_odds

MOST_TOKENS = 8  # of an answer
VALUES = {"A": 1.0, "B": 0.0, "C": 0.5}  # the probability that A is better, of a certain verdict
MARKUP = " \n\r\t*_#`'\"()[].:"  # around a letter
READABLE = 0.5  # least probability of the letters together

Tokens = Sequence[tuple[str, float]]


def verdict_logit(text: str, positions: Sequence[Tokens] = ()) -> float:
    """Log odds that A is better; a tie counts half. NaN for an answer that is no verdict.

    positions: tokens with their natural log-probabilities. The first position that is not markup has the verdict: the odds
    are those of its letters, if these hold half of the probability or more. Without positions a letter that stands alone
    in the text's first line is a certain verdict.
    """
    for tokens in positions:
        if not max(tokens, key=lambda token: token[1])[0].strip(MARKUP):
            continue
        letters = [(letter, exp(logprob)) for token, logprob in tokens if (letter := token.strip(MARKUP)) in VALUES]
        total = sum(chance for _, chance in letters)
        if total < READABLE:
            return nan
        return float(log_odds(sum(VALUES[letter] * chance for letter, chance in letters) / total))
    found = re.fullmatch(r"([ABC])", (text.strip().splitlines() or [""])[0].strip(MARKUP))
    return float(log_odds(VALUES[found[1]])) if found else nan
