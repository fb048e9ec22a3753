"""The evaluation after each iteration, on the pools of the run.

In: the held-out prompts, in the ledger as those of iteration 0. Out: the responses of each snapshot to them, and win rates.
"""

import asyncio
from typing import Any

from actors.pipeline import Stages
from sppo_ray.evaluation import Rule, rule_wins, win_rate, wins
from sppo_ray.records import Candidates, Snapshot

FOLDER = "evaluation"


async def sample_held_out(stages: Stages, iteration: int, snapshot: Snapshot) -> None:
    """Have a snapshot answer every held-out prompt; blocks that the ledger has are kept."""
    ledger, config = stages.ledger, stages.config
    prompts = ledger.prompts(0)
    calls = []
    for block, start in enumerate(range(0, len(prompts), config.block)):
        path = ledger.block(Candidates, iteration, block, FOLDER)
        if not ledger.has(Candidates, path):
            part = prompts[start : start + config.block]
            calls.append(
                stages.generators.call.remote("generate", path, part, config.evaluation.responses, snapshot.name)
            )
    await asyncio.gather(*calls)


async def compare_held_out(stages: Stages, iteration: int, rule: Rule | None) -> dict[str, Any]:
    """Win rates of an iteration's snapshot against the base and the one before, and lengths, for the report."""
    new = responses(stages, iteration)
    if not new:
        return {}
    result: dict[str, Any] = {"mean_response_tokens": mean_tokens(new)}
    for name, other in (("base", 0), ("previous", iteration - 1)):
        old = responses(stages, other)
        rate = await judge(stages, new, old)
        result |= {f"win_rate_vs_{name}": rate["win_rate"], f"win_rate_vs_{name}_interval": rate["interval"]}
    if rule is not None:
        result["rule_win_rate_vs_base"] = rule_wins(rule, new, responses(stages, 0))
    return result


async def judge(stages: Stages, new: list[Candidates], old: list[Candidates]) -> dict[str, Any]:
    """Win rate of one list of answers against another to the same prompts: the n-th against the n-th, in both orders."""
    calls = []
    for start in range(0, len(new), stages.config.block):
        both = list(
            zip(new[start : start + stages.config.block], old[start : start + stages.config.block], strict=True)
        )
        duels = [
            (a.prompt, [mine, other]) for a, b in both for mine, other in zip(a.responses, b.responses, strict=True)
        ]
        prompts, candidates = map(list, zip(*duels, strict=True))
        calls.append(stages.rankers.call.remote("compare", prompts, candidates))
    parts = await asyncio.gather(*calls)
    per_prompt = [row for part in parts for row in wins(part).reshape(-1, len(new[0].responses)).mean(axis=1)]
    return win_rate(per_prompt, seed=stages.config.seed)


def responses(stages: Stages, iteration: int) -> list[Candidates]:
    """The answers of an iteration's snapshot to the held-out prompts, in their order."""
    ledger = stages.ledger
    blocks = -(-len(ledger.prompts(0)) // stages.config.block)
    paths = [ledger.block(Candidates, iteration, block, FOLDER) for block in range(blocks)]
    return [candidates for path in paths for candidates in ledger.read(Candidates, path)]


def mean_tokens(candidates: list[Candidates]) -> float:
    lengths = [len(ids) for row in candidates for ids in row.token_ids]
    return sum(lengths) / len(lengths)
