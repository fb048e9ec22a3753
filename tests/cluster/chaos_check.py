"""What a chaos run lost, doubled, tore or did differently from a quiet one.

In: the run folders of both. Out: an `Outcome`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sppo_ray.errors import DamagedFile
from sppo_ray.evaluation import duels, wins
from sppo_ray.judging import Judge, pair
from sppo_ray.records import Anchored, Candidates, Judged
from sppo_ray.run_folder import Ledger
from sppo_ray.run_folder.snapshots import verify

ITERATIONS = 2
FAULTS = ("lost", "doubled", "torn", "different", "contradictions")


@dataclass
class Outcome:
    """What one run came to. lost, doubled: prompts.  torn: blocks and snapshots that are not what was written.

    different: pairs and steps that are not those of the quiet run.  contradictions: see the function of that name.
    """

    seconds: float
    kills: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    different: int = 0
    contradictions: int = 0


def check(outcome: Outcome, root: Path, quiet: Path | None, judge: Judge | None = None) -> Outcome:
    """Count what a run lost, doubled, tore or did differently from the quiet one. judge: the one of the run, if it is a fake."""
    ledger = Ledger(root)
    for iteration in range(1, ITERATIONS + 1):
        wanted = [prompt.prompt_id for prompt in ledger.prompts(iteration)]
        try:
            judged = list(ledger.rows(Judged, iteration))
            candidates = list(ledger.rows(Candidates, iteration))
            snapshot = ledger.snapshot(iteration)
            assert snapshot is not None
            verify(snapshot)
        except DamagedFile:
            outcome.torn += 1
            continue
        names = [row.prompt_id for row in judged]
        outcome.lost += len(set(wanted) - set(names)) + abs(len(candidates) - len(wanted))
        outcome.lost += abs(len(ledger.held_out(iteration)) - len(ledger.prompts(0)))
        outcome.doubled += len(names) - len(set(names))
        anchored = [row.prompt_id for row in ledger.rows(Anchored, iteration, "anchored-iter-0")]
        outcome.lost += anchored != (wanted if iteration > 1 and ledger.config().training.anchors.base else [])
        outcome.contradictions += contradictions(ledger, iteration, judge)
        log = ledger.training_rows(iteration)
        outcome.doubled += max(0, sum(row["pairs"] for row in log) - len(wanted))
        if quiet is not None:
            other = Ledger(quiet)
            pairs = zip(judged, other.rows(Judged, iteration), strict=True)
            outcome.different += sum(repr(mine) != repr(theirs) for mine, theirs in pairs)  # NaN are not equal
            anchored = (list(one.rows(Anchored, iteration, "anchored-iter-0")) for one in (ledger, other))
            outcome.different += next(anchored) != next(anchored)
            # Equal numbers in every step: the same pairs, each once, in the same order, from the same weights.
            steps = zip(log, other.training_rows(iteration), strict=True)
            outcome.different += sum(mine != theirs for mine, theirs in steps)
    outcome.torn += len(list(root.rglob("*.tmp-*"))) + len(list(root.rglob("*.damaged")))
    return outcome


def contradictions(ledger: Ledger, iteration: int, judge: Judge | None) -> int:
    """What does not follow from the samples in the run folder: judgements, steps by their tokens, the evaluation.

    A block that is sampled twice and used in both versions is one.
    """
    config, report = ledger.config(), ledger.report(iteration) or {}
    rows = list(ledger.scored(iteration))
    found = sum(judged.responses != candidates.responses for candidates, judged in rows)
    pairs = [pair(candidates, judged, config) for candidates, judged in rows]
    tokens = [2 * len(p.prompt_token_ids) + len(p.chosen.token_ids) + len(p.rejected.token_ids) for p in pairs]
    size = config.training.batch_size
    batches = [sum(tokens[start : start + size]) for start in range(0, len(tokens), size)]
    found += batches != [row["tokens"] for row in ledger.training_rows(iteration)]
    if judge is not None:
        new, base = ledger.held_out(iteration), ledger.held_out(0)
        rate = float(wins(judge.compare(*duels(new, base))).mean())
        found += report["win_rate_vs_base"] != pytest.approx(rate)
        lengths = [len(ids) for row in new for ids in row.token_ids]
        found += report["mean_response_tokens"] != pytest.approx(sum(lengths) / len(lengths))
    return found
