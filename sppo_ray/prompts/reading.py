"""Prompts as people wrote them: read, checked, deduplicated, shuffled by the seed and split into iterations.

In: a `PromptSource` of the configuration. Out: `SourcePrompt`s, still text; `chat_template` turns them into tokens.
A source that cannot be used is a `PromptError` that names the file, the row or column and the remedy.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any

from sppo_ray.config import PromptSource
from sppo_ray.errors import PromptError
from sppo_ray.prompts.files import Table
from sppo_ray.prompts.messages import BadRow, is_missing, transcript
from sppo_ray.prompts.rows import COLUMNS, UNREAD_COLUMNS, columns_read, parse_row
from sppo_ray.prompts.sources import open_table
from sppo_ray.records import Message

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
    """duplicates: prompts dropped because they occurred before.  skipped: the bad rows left out, one phrase each.

    formats: what the source was read as, one phrase per table.
    """

    prompts: list[SourcePrompt]
    duplicates: int
    skipped: list[str]
    formats: list[str]


@dataclass(frozen=True)
class IterationPrompts:
    """iterations: the disjoint prompts of iterations 1, 2, ...  held_out: set apart from them.

    evaluated: prompts left out because the evaluation asks them.  The rest as in `PromptSet`.
    """

    iterations: list[list[SourcePrompt]]
    held_out: list[SourcePrompt]
    duplicates: int
    evaluated: int
    skipped: list[str]
    formats: list[str]


@dataclass(frozen=True)
class _Rows:
    prompts: list[SourcePrompt]
    skipped: list[str]
    format: str


def read_prompts(source: PromptSource, *, iteration: int | None = None, seed: int) -> PromptSet:
    """The distinct prompts of one source, shuffled by the seed: the first `source.limit` of them."""
    rows = _read(source, _split(source, iteration))
    (distinct,), duplicates = _distinct([rows.prompts], source.source)
    return PromptSet(_shuffled(distinct, seed)[: source.limit], duplicates, rows.skipped, [rows.format])


def iteration_prompts(
    source: PromptSource, iterations: int, seed: int, held_out: int = 0, evaluated: Sequence[SourcePrompt] = ()
) -> IterationPrompts:
    """The prompts of every iteration, disjoint and shuffled by the seed alone: the order of the rows does not matter.

    With "{iteration}" in `source.split` each iteration reads its own split, and `source.limit` holds for each of them.
    Otherwise the first `source.limit` prompts are dealt into contiguous parts whose sizes differ by one at most.
    `held_out` prompts are set apart before that, evenly from the splits. `evaluated` prompts are never trained on.
    """
    by_split = "{iteration}" in (source.split or "")
    tables = [_read(source, _split(source, t)) for t in (range(1, iterations + 1) if by_split else [None])]
    asked = {_spaceless(prompt) for prompt in evaluated}
    free = [[prompt for prompt in table.prompts if _spaceless(prompt) not in asked] for table in tables]
    pools, duplicates = _distinct(free, source.source)
    pools = [_shuffled(pool, seed) for pool in pools]
    apart = [held_out // len(pools) + (i < held_out % len(pools)) for i in range(len(pools))]
    kept = [pool[n:][: source.limit] for pool, n in zip(pools, apart, strict=True)]
    found = IterationPrompts(
        iterations=kept if by_split else _deal(kept[0], iterations),
        held_out=[prompt for pool, n in zip(pools, apart, strict=True) for prompt in pool[:n]],
        duplicates=duplicates,
        evaluated=sum(len(table.prompts) for table in tables) - sum(map(len, free)),
        skipped=[row for table in tables for row in table.skipped],
        formats=[table.format for table in tables],
    )
    for pool, n, rest in zip(pools, apart, kept, strict=True):
        if len(rest) < (1 if by_split else iterations):
            each = " per split" if by_split else ""
            limited = f", at most {source.limit} used" if source.limit else ""
            asked_too = f" that evaluation.prompts does not hold ({found.evaluated} do)" if found.evaluated else ""
            raise PromptError(
                f"{source.source} gives {len(pool)} distinct prompts{each}{asked_too}, {n} of them held out{limited}: too "
                f"few for {iterations} iterations; add prompts, or lower iterations or evaluation.held_out"
            )
    return found


def _split(source: PromptSource, iteration: int | None) -> str | None:
    if source.split is None or "{iteration}" not in source.split:
        return source.split
    if iteration is None:
        raise PromptError(f"the split {source.split!r} of {source.source} is one of training: name one split here")
    return source.split.replace("{iteration}", str(iteration))


def _read(source: PromptSource, split: str | None) -> _Rows:
    table = open_table(source.source, split, source.subset)
    column = _column(table, source.column)
    columns = columns_read(column, table.columns)
    id_column = next((name for name in ID_COLUMNS if name in table.columns and name not in columns), None)
    prompts, bad, total = [], [], 0
    for place, row in table.rows(columns if id_column is None else [*columns, id_column]):
        total += 1
        try:
            messages = parse_row(row, column)
            prompts.append(SourcePrompt(_prompt_id(row.get(id_column or ""), messages), messages))
        except BadRow as reason:
            bad.append(f"{place}{reason}")
    if not total:
        raise PromptError(f"{table.where} has columns but no rows: correct prompts.source")
    if (bad and not source.skip_bad_rows) or not prompts:
        examples = "; ".join(bad[:NAMED]) + ("; ..." if len(bad) > NAMED else "")
        raise PromptError(
            f"{table.where}: {len(bad)} of {total} rows hold no usable prompt in column {column!r}: {examples}\n"
            "Correct them, name another column with prompts.column, or leave them out with prompts.skip_bad_rows=true"
        )
    several = sum(len(prompt.messages) > 1 for prompt in prompts)
    completed = ", ".join(name for name in columns[1:] if name not in UNREAD_COLUMNS)
    read_as = f"column {column}{completed and f' with {completed}'}, {len(prompts)} prompts"
    read_as += f", {several} of several turns" if several else ""
    return _Rows(prompts, [f"{table.where}, {row}" for row in bad], f"{table.where}: {read_as}")


def _column(table: Table, name: str | None) -> str:
    found = [c for c in (COLUMNS if name is None else (name,)) if c in table.columns]
    if not found:
        missing = f"has no column {name!r}" if name else f"has none of the columns {', '.join(COLUMNS)}"
        has = f"it has {', '.join(table.columns)}" if table.columns else "it is empty"
        raise PromptError(f"{table.where} {missing}; {has}: correct prompts.column or prompts.source")
    return found[0]


def _prompt_id(value: Any, messages: tuple[Message, ...]) -> str:
    if not is_missing(value) and str(value).strip().lower() not in ("", "nan"):
        return str(value)
    turns = [[turn["role"], turn["content"]] for turn in messages]
    return sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()[:16]


def _spaceless(prompt: SourcePrompt) -> tuple[tuple[str, str], ...]:
    """A prompt for comparison with another source's, where spaces and line ends may differ."""
    return tuple((turn["role"], " ".join(turn["content"].split())) for turn in prompt.messages)


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
