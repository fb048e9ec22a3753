"""From a judged prompt to the row that is trained.

In: `Candidates` and `Judged` of one prompt. Out: a `Pair`, cut to the configured lengths.
"""

from sppo_ray.chat import cut_pair
from sppo_ray.config import Config
from sppo_ray.preference import preference_probabilities, target_win_rates
from sppo_ray.records import Candidates, Judged, Pair, Response


def pair(candidates: Candidates, judged: Judged, config: Config) -> Pair:
    """The chosen and rejected responses as they were sampled, with the win rates that the loss regresses them to."""
    chosen, rejected = judged.chosen, judged.rejected
    preference = preference_probabilities(judged.comparisons, config.judge.estimator, config.judge.temperature)
    targets = target_win_rates(
        config.training.loss,
        judged.win_rates[chosen],
        judged.win_rates[rejected],
        float(preference[chosen, rejected]),
    )
    responses = [
        Response(candidates.token_ids[index], candidates.logprobs[index], target)
        for index, target in zip((chosen, rejected), targets, strict=True)
    ]
    prompt, *cut = cut_pair(
        candidates.prompt_token_ids,
        *responses,
        max_length=config.policy.max_length,
        max_prompt_length=config.policy.max_prompt_length,
    )
    return Pair(candidates.prompt_id, prompt, *cut)


def filler() -> Pair:
    """A row of weight 0: it makes the last batch as large as the others and trains nothing."""
    nothing = Response([0], [0.0], 0.5)
    return Pair("", [0], nothing, nothing, weight=0.0)
