"""The evaluation after each iteration, on the pools of the run.

In: the held-out prompts, in the ledger as those of iteration 0. Out: the responses of each snapshot to them, and win rates.
"""

import asyncio
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.run.scoring import EnginePools, check_set_aside, sample_block
from sppo_ray.errors import BlockFailed
from sppo_ray.evaluation import Rule, align, length_controlled, more_characters, rule_wins, win_rate, wins
from sppo_ray.records import Candidates, Snapshot
from sppo_ray.run_folder import HELD_OUT

log = logging.getLogger(__name__)


async def sample_held_out(pools: EnginePools, iteration: int, snapshot: Snapshot) -> None:
    """Sample a snapshot's responses to every held-out prompt; blocks that the ledger has are kept.

    A prompt that fails on every engine is left out of the comparisons. Raises `RunFailed` if those are too many.
    """
    ledger, config = pools.ledger, pools.config
    prompts = await asyncio.to_thread(ledger.prompts, 0)
    calls = []
    for block, start in enumerate(range(0, len(prompts), config.block)):
        path = ledger.block(Candidates, iteration, block, HELD_OUT)
        if not await asyncio.to_thread(ledger.has, path):
            part = prompts[start : start + config.block]
            calls.append(sample_block(pools, path, part, config.evaluation.responses, snapshot.name))
    failed = [prompt for _, aside in await asyncio.gather(*calls) for prompt in aside]
    for one in failed:
        log.warning("held-out prompt %s is not evaluated in iteration %d: %s", one.prompt_id, iteration, one.why)
    if failed:
        last = f"{failed[-1].prompt_id}: {failed[-1].why}"
        check_set_aside(config, f"iteration {iteration}: {{}} held-out prompts", len(failed), len(prompts), last)


async def compare_held_out(pools: EnginePools, iteration: int, rule: Rule | None) -> dict[str, Any]:
    """Win rates of an iteration's snapshot against the base and the previous one, and lengths, for the report.

    They are by the judge of `evaluation.judge`, where there is one; then those by the judge that trains are in it, too.
    """
    new = await asyncio.to_thread(pools.ledger.held_out, iteration)
    if not new:
        return {}
    base = await asyncio.to_thread(pools.ledger.held_out, 0)
    result: dict[str, Any] = {"mean_response_tokens": mean_tokens(new)}
    result |= await _win_rates(pools, iteration, new, base, evaluation=True)
    if pools.config.evaluation.judge is not None:
        found = await _win_rates(pools, iteration, new, base, evaluation=False)
        result |= {f"training_judge_{name}": value for name, value in found.items()}
    if rule is not None:
        result["rule_win_rate_vs_base"] = rule_wins(rule, *align(new, base))
    return result


async def _win_rates(
    pools: EnginePools, iteration: int, new: list[Candidates], base: list[Candidates], evaluation: bool
) -> dict[str, Any]:
    against_base = await judge(pools, new, base, evaluation)
    # The snapshot before the first iteration is the base: one comparison serves both.
    before = iteration - 1
    against_previous = against_base
    if before:
        previous = await asyncio.to_thread(pools.ledger.held_out, before)
        against_previous = await judge(pools, new, previous, evaluation)
    return {
        key: value
        for name, rate in (("base", against_base), ("previous", against_previous))
        for key, value in (
            (f"win_rate_vs_{name}", rate["win_rate"]),
            (f"win_rate_vs_{name}_interval", rate["interval"]),
            (f"lc_win_rate_vs_{name}", rate["lc_win_rate"]),
            (f"lc_win_rate_vs_{name}_interval", rate["lc_interval"]),
        )
    }


async def judge(
    pools: EnginePools, new: list[Candidates], old: list[Candidates], evaluation: bool = True
) -> dict[str, Any]:
    """Win rates, plain and length-controlled, of one list of responses against another: the n-th against the n-th.

    A comparison that fails on every judge counts as a tie. Raises `RunFailed` if those are too many.
    evaluation: by the judge of `evaluation.judge`, where there is one, and not by the one that trains.
    """
    new, old = align(new, old)  # a prompt that one of them has no responses to was set aside
    if not new:
        return dict.fromkeys(("win_rate", "interval", "lc_win_rate", "lc_interval"))
    calls = []
    for start in range(0, len(new), pools.config.block):
        both = list(zip(new[start : start + pools.config.block], old[start : start + pools.config.block], strict=True))
        duels = [
            (a.prompt, [mine, other]) for a, b in both for mine, other in zip(a.responses, b.responses, strict=True)
        ]
        prompts, candidates = map(list, zip(*duels, strict=True))
        calls.append(_compare(pools, prompts, candidates, evaluation))
    logits = np.concatenate(await asyncio.gather(*calls))
    if unknown := int((~np.isfinite(logits[:, (0, 1), (1, 0)])).any(axis=1).sum()):
        which = "{} comparisons of responses to held-out prompts"
        check_set_aside(pools.config, which, unknown, len(logits), "the judge gave no numbers, see the log")
    per_prompt = list(wins(logits).reshape(-1, len(new[0].responses)).mean(axis=1))
    seed, longer = pools.config.seed, more_characters(new, old)
    controlled = await asyncio.to_thread(length_controlled, per_prompt, longer, seed)
    return win_rate(per_prompt, seed) | controlled


async def _compare(
    pools: EnginePools, prompts: list[str], candidates: list[list[str]], evaluation: bool
) -> NDArray[np.float32]:
    """Logits (N, 2, 2) of N duels; NaN for one that fails on every judge."""
    try:
        logits = await pools.call_judge("compare", prompts, candidates, evaluation)
    except BlockFailed as error:
        if len(prompts) == 1:
            log.warning("no judge can compare the responses to %r: %s", prompts[0], error)
            return np.full((1, 2, 2), np.nan, dtype=np.float32)
        logits = np.concatenate(
            [
                await _compare(pools, *pair, evaluation)
                for pair in zip([[p] for p in prompts], [[c] for c in candidates], strict=True)
            ]
        )
    return logits


def mean_tokens(candidates: list[Candidates]) -> float:
    lengths = [len(ids) for row in candidates for ids in row.token_ids]
    return sum(lengths) / len(lengths)
