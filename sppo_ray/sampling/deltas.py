"""What vLLM reports of an answer in progress, as the records that people's requests are answered with.

In: a completion of vLLM's output, with the tokens since the last one. Out: a `TokenDelta`.
"""

from typing import Any

from sppo_ray.records import TokenDelta, TokenLogprobs


def token_delta(completion: Any, snapshot: str, most_likely: int | None) -> TokenDelta:
    """most_likely: how many log-probabilities to report per token beside the sampled one's; None for none at all."""
    ids = completion.token_ids
    # A delta without tokens comes with the log-probabilities of all tokens: not strict.
    entries = () if most_likely is None else zip(ids, completion.logprobs, strict=False)
    logprobs = tuple(_token(entry, sampled, most_likely or 0) for sampled, entry in entries)
    return TokenDelta(completion.index, completion.text, len(ids), snapshot, completion.finish_reason, logprobs)


def _token(entry: dict[int, Any], sampled: int, most_likely: int) -> TokenLogprobs:
    """vLLM's entry of a position holds the sampled token and the most likely ones, each once."""
    ranked = sorted(entry.values(), key=lambda one: one.rank)
    top = tuple((one.decoded_token, one.logprob) for one in ranked if one.rank <= most_likely)
    return TokenLogprobs(entry[sampled].decoded_token, entry[sampled].logprob, top)
