"""Prompts as people wrote them: read, checked, freed of duplicates, shuffled by the seed and split into iterations.

In: a `PromptSource` of the configuration. Out: `SourcePrompt`s, still text; `chat` turns them into tokens.
A source that cannot be used is a `PromptError` that names the file, the row or column and the remedy.
"""

import json
import random
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

from sppo_ray.config import PromptSource
from sppo_ray.errors import PromptError
from sppo_ray.prompts.messages import BadRow, parse_messages, transcript
from sppo_ray.prompts.sources import Table, open_table
from sppo_ray.records import Message

COLUMNS = ("prompt", "instruction", "question", "messages", "conversations", "conversation", "text", "input")
ID_COLUMNS = ("prompt_id", "id")
NAMED = 3  # bad rows that a message spells out


@dataclass(frozen=True)
class SourcePrompt:
    """The turns that lead up to the answer; the last one is the user's."""

    prompt_id: str
    messages: tuple[Message, ...]

    @property
    def text(self) -> str:
        """What the judge and people see, without control tokens of any model."""
        return transcript(self.messages)


@dataclass(frozen=True)
class PromptSet:
    """duplicates: prompts dropped because they occurred before.  skipped: the bad rows left out, one phrase each."""

    prompts: list[SourcePrompt]
    duplicates: int
    skipped: list[str]


@dataclass(frozen=True)
class IterationPrompts:
    """iterations: the disjoint prompts of iterations 1, 2, ...  held_out: set apart; the rest as in `PromptSet`."""

    iterations: list[list[SourcePrompt]]
    held_out: list[SourcePrompt]
    duplicates: int
    skipped: list[str]


def read_prompts(source: PromptSource, *, iteration: int | None = None, seed: int) -> PromptSet:
    """The distinct prompts of one source, shuffled by the seed: the first `source.limit` of them."""
    prompts, skipped = _read(source, _split(source, iteration))
    (distinct,), duplicates = _distinct([prompts], source.source)
    return PromptSet(_shuffled(distinct, seed)[: source.limit], duplicates, skipped)


def iteration_prompts(source: PromptSource, iterations: int, seed: int, held_out: int = 0) -> IterationPrompts:
    """The prompts of every iteration, disjoint and shuffled by the seed alone: the order of the rows does not matter.

    With "{iteration}" in `source.split` each iteration reads its own split, and `source.limit` holds for each of them.
    Otherwise the first `source.limit` prompts are dealt into contiguous parts whose sizes differ by one at most.
    `held_out` prompts are set apart before that, evenly from the splits.
    """
    by_split = "{iteration}" in (source.split or "")
    tables = [_read(source, _split(source, t)) for t in (range(1, iterations + 1) if by_split else [None])]
    pools, duplicates = _distinct([prompts for prompts, _ in tables], source.source)
    pools = [_shuffled(pool, seed) for pool in pools]
    apart = [held_out // len(pools) + (i < held_out % len(pools)) for i in range(len(pools))]
    kept = [pool[n:][: source.limit] for pool, n in zip(pools, apart, strict=True)]
    need = 1 if by_split else iterations
    for pool, n, rest in zip(pools, apart, kept, strict=True):
        if len(rest) < need:
            each, limited = (" a split" if by_split else ""), (f", at most {source.limit} used" if source.limit else "")
            raise PromptError(
                f"{source.source} gives {len(pool)} distinct prompts{each}, {n} of them held out{limited}: too few for "
                f"{iterations} iterations; add prompts, or lower iterations or evaluation.held_out"
            )
    return IterationPrompts(
        iterations=kept if by_split else _deal(kept[0], iterations),
        held_out=[prompt for pool, n in zip(pools, apart, strict=True) for prompt in pool[:n]],
        duplicates=duplicates,
        skipped=[row for _, skipped in tables for row in skipped],
    )


def _split(source: PromptSource, iteration: int | None) -> str | None:
    if source.split is None or "{iteration}" not in source.split:
        return source.split
    if iteration is None:
        raise PromptError(f"the split {source.split!r} of {source.source} is one of training: name one split here")
    return source.split.replace("{iteration}", str(iteration))


def _read(source: PromptSource, split: str | None) -> tuple[list[SourcePrompt], list[str]]:
    table = open_table(source.source, split)
    column = _column(table, source.column)
    id_column = next((name for name in ID_COLUMNS if name in table.columns and name != column), None)
    prompts, bad, total = [], [], 0
    for number, row in table.rows([column] if id_column is None else [column, id_column]):
        total += 1
        try:
            messages = parse_messages(row[column])
            prompts.append(SourcePrompt(_prompt_id(row.get(id_column or ""), messages), messages))
        except BadRow as reason:
            bad.append(f"{table.unit} {number} {reason}")
    if not total:
        raise PromptError(f"{table.where} has columns but no rows: correct prompts.source")
    if (bad and not source.skip_bad_rows) or not prompts:
        examples = "; ".join(bad[:NAMED]) + ("; ..." if len(bad) > NAMED else "")
        raise PromptError(
            f"{table.where}: {len(bad)} of {total} rows hold no usable prompt in column {column!r}: {examples}\n"
            "Correct them, name another column with prompts.column, or leave them out with prompts.skip_bad_rows=true"
        )
    return prompts, [f"{table.where}, {row}" for row in bad]


def _column(table: Table, name: str | None) -> str:
    found = [c for c in (COLUMNS if name is None else (name,)) if c in table.columns]
    if not found:
        missing = f"has no column {name!r}" if name else f"has none of the columns {', '.join(COLUMNS)}"
        has = f"it has {', '.join(table.columns)}" if table.columns else "it is empty"
        raise PromptError(f"{table.where} {missing}; {has}: correct prompts.column or prompts.source")
    return found[0]


def _prompt_id(value: Any, messages: tuple[Message, ...]) -> str:
    if value is not None and str(value).strip():
        return str(value)
    turns = [[turn["role"], turn["content"]] for turn in messages]
    return sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()[:16]


def _distinct(lists: list[list[SourcePrompt]], where: str) -> tuple[list[list[SourcePrompt]], int]:
    """The lists without prompts that occurred before, in the same list or an earlier one, and how many those were."""
    seen: set[str] = set()
    by_id: dict[str, SourcePrompt] = {}
    result: list[list[SourcePrompt]] = []
    for prompts in lists:
        result.append([])
        for prompt in prompts:
            turns = json.dumps(prompt.messages)
            if turns in seen:
                continue
            seen.add(turns)
            other = by_id.setdefault(prompt.prompt_id, prompt)
            if other is not prompt:
                raise PromptError(
                    f"{where}: the id {prompt.prompt_id!r} stands for different prompts, {other.text[:40]!r} and "
                    f"{prompt.text[:40]!r}: give each its own id, or drop the id column and ids are made of the text"
                )
            result[-1].append(prompt)
    return result, sum(map(len, lists)) - len(by_id)


def _shuffled(prompts: list[SourcePrompt], seed: int) -> list[SourcePrompt]:
    ordered = sorted(prompts, key=lambda prompt: prompt.prompt_id)
    random.Random(seed).shuffle(ordered)
    return ordered


def _deal(prompts: list[SourcePrompt], parts: int) -> list[list[SourcePrompt]]:
    edges = [len(prompts) * i // parts for i in range(parts + 1)]
    return [prompts[start:end] for start, end in pairwise(edges)]
