"""From comparisons to a judged prompt, and from that to the pair that is trained.

In: `Candidates` and the judge's logits, then `Candidates` and `Judged`. Out: `Judged`, then a `Pair`, cut to the configured lengths.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sppo_ray.config import Config, JudgeSettings, TrainingSettings
from sppo_ray.loss import find_loss
from sppo_ray.preference import preference_probabilities, select_pair, win_rates
from sppo_ray.records import Anchored, Candidates, Judged, Pair, Response, SetAside

NOT_NUMBERS = (
    "the judge's comparisons or the sampler's log-probabilities of {} of its {} responses are not finite numbers"
)


def judged_rows(
    rows: Sequence[Candidates], comparisons: NDArray[np.float32], truncated: NDArray[np.float32], judge: JudgeSettings
) -> tuple[list[Judged], list[SetAside]]:
    """Win rates, chosen and rejected from the comparisons (N, K, K) of N prompts. truncated: shares (N,).

    A response whose comparisons or log-probabilities are not finite numbers is neither chosen nor rejected, and its win
    rate is NaN. A prompt with fewer than two others is set aside.
    """
    how = judge.estimator, judge.temperature
    sampled = np.array([[np.isfinite(logprobs).all() for logprobs in row.logprobs] for row in rows], dtype=np.bool_)
    known = np.isfinite(comparisons) & sampled.reshape(*comparisons.shape[:2], 1)
    comparisons = np.where(known, comparisons, np.float32(np.nan))
    rates = win_rates(comparisons, *how)
    chosen, rejected = select_pair(comparisons, *how)
    usable = np.isfinite(rates).sum(axis=-1)
    judged = [
        Judged(
            prompt_id=row.prompt_id,
            prompt=row.prompt,
            responses=row.responses,
            comparisons=comparisons[i].tolist(),
            win_rates=rates[i].tolist(),
            chosen=int(chosen[i]),
            rejected=int(rejected[i]),
            snapshot=row.snapshot,
            truncated=float(truncated[i]),
        )
        for i, row in enumerate(rows)
        if usable[i] >= 2
    ]
    return judged, [
        SetAside(row.prompt_id, "judge", NOT_NUMBERS.format(len(row.responses) - usable[i], len(row.responses)))
        for i, row in enumerate(rows)
        if usable[i] < 2
    ]


def trained(judged: Judged, training: TrainingSettings) -> bool:
    """Whether the pair of a prompt is trained: its win rates differ by `training.min_margin` at least."""
    return judged.win_rates[judged.chosen] - judged.win_rates[judged.rejected] >= training.min_margin


def pair(
    candidates: Candidates, judged: Judged, config: Config, anchors: Sequence[tuple[float, Anchored]] = ()
) -> Pair:
    """The chosen and rejected responses as sampled, with the win rates that the loss uses: targets of a pointwise loss, else w.

    anchors: log-probabilities under the anchors besides the current policy, with their weights.
    """
    chosen, rejected = judged.chosen, judged.rejected
    preference = preference_probabilities(judged.comparisons, config.judge.estimator, config.judge.temperature)
    rates = judged.win_rates[chosen], judged.win_rates[rejected]
    pointwise = find_loss(config.training.loss).targets
    targets = pointwise(rates, float(preference[chosen, rejected])) if pointwise else rates
    responses = [
        Response(candidates.token_ids[index], candidates.logprobs[index], target)
        for index, target in zip((chosen, rejected), targets, strict=True)
    ]
    prompt, first, second = cut_pair(
        candidates.prompt_token_ids,
        *responses,
        max_length=config.policy.max_length,
        max_prompt_length=config.policy.max_prompt_length,
    )
    first, second = (
        replace(response, anchor_gap=sum(weight * _gap(getattr(anchor, name), response) for weight, anchor in anchors))
        for name, response in (("chosen", first), ("rejected", second))
    )
    return Pair(candidates.prompt_id, prompt, first, second)


def _gap(logprobs: list[float], response: Response) -> float:
    """log pi_k - log pi_t of a response, which may have been cut, in nats."""
    return sum(logprobs[: len(response.token_ids)]) - sum(response.reference_logprobs)


def filler() -> Pair:
    """A pair of weight 0: it fills up the last batch and trains nothing."""
    nothing = Response([0], [0.0], 0.5)
    return Pair("", [0], nothing, nothing, weight=0.0)


def cut_pair(
    prompt_ids: list[int], chosen: Response, rejected: Response, *, max_length: int, max_prompt_length: int
) -> tuple[list[int], Response, Response]:
    """Cut a pair above `max_length` as the release does: the prompt keeps its end, responses their start."""
    longer = max(len(chosen.token_ids), len(rejected.token_ids))
    if len(prompt_ids) + longer > max_length:
        prompt_ids = prompt_ids[-max_prompt_length:]
    if len(prompt_ids) + longer > max_length:
        room = max_length - max_prompt_length
        chosen, rejected = _first(chosen, room), _first(rejected, room)
    return prompt_ids, chosen, rejected


def _first(response: Response, tokens: int) -> Response:
    return replace(
        response,
        token_ids=response.token_ids[:tokens],
        reference_logprobs=response.reference_logprobs[:tokens],
    )
