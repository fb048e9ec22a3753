"""AlpacaEval's files: instructions in, `model_outputs.json` out, and its length as the leaderboard counts it.

In: a file of instructions, or of any model's outputs. Out: what `alpaca_eval --model_outputs` reads; count and mean length.
Light on purpose: summarizing a file must not wait for Ray, Torch or `datasets`.
"""

import csv
import json
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from sppo_ray.errors import PromptError

NAMED = 3  # bad rows that a message spells out
MODELS_OWN = ("output", "generator")  # in a file of instructions these are another model's


@dataclass(frozen=True)
class Instruction:
    """text: what the model is asked.  row: the other columns, which the output keeps."""

    text: str
    row: dict[str, Any]


def read_instructions(source: str, column: str | None = None) -> list[Instruction]:
    """All instructions of a file or data set, in its order, duplicates included: AlpacaEval pairs outputs by them.

    Without a column's name it is `instruction`, else `prompt`. A file without a `dataset` is its own, by its name.
    """
    from sppo_ray.prompts import open_table

    table = open_table(source, None)
    found = [name for name in ([column] if column else ["instruction", "prompt"]) if name in table.columns]
    if not found:
        raise PromptError(
            f"{table.where} has no column {column or 'instruction'!r}; it has {', '.join(table.columns)}: "
            "name the column of the instructions with --column"
        )
    kept = [name for name in table.columns if name not in (found[0], *MODELS_OWN)]
    instructions, bad = [], []
    for number, row in table.rows([found[0], *kept]):
        text = row.pop(found[0])
        if not isinstance(text, str) or not text.strip():
            bad.append(f"{table.unit} {number}")
        instructions.append(Instruction(text, {"dataset": Path(source).stem} | row))
    if bad or not instructions:
        what = f"no instruction in {', '.join(bad[:NAMED])}{', ...' if len(bad) > NAMED else ''}" if bad else "no rows"
        raise PromptError(f"{table.where} has {what}: AlpacaEval needs one text a row")
    return instructions


def model_outputs(instructions: list[Instruction], outputs: list[str], generator: str) -> list[dict[str, Any]]:
    """The rows of a `model_outputs.json`. generator: the model's name on the leaderboard."""
    return [
        {"instruction": asked.text, "output": output, "generator": generator, **asked.row}
        for asked, output in zip(instructions, outputs, strict=True)
    ]


def summarize(file: Path) -> dict[str, float]:
    """count and mean_characters of the outputs of a file; avg_length is the leaderboard's column, which drops the fraction.

    Characters are Unicode code points, and rows without an output count but have no length, as in alpaca_eval.
    """
    rows = _rows(file)
    outputs = [row.get("output") for row in rows]
    wrong = [number for number, output in enumerate(outputs, 1) if not isinstance(output, str | None)]
    lengths = [len(output) for output in outputs if isinstance(output, str)]
    if wrong or not lengths:
        where = f"the `output` of row {wrong[0]} is no text" if wrong else "no row has an `output`"
        raise PromptError(f'{file}: {where}; AlpacaEval\'s rows are {{"instruction": ..., "output": ...}}')
    mean = sum(lengths) / len(lengths)
    return {"count": len(rows), "mean_characters": mean, "avg_length": int(mean)}


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{file} cannot be read: {error}") from None
    if file.suffix in (".csv", ".tsv"):
        csv.field_size_limit(2**31 - 1)  # the default refuses an output above 128 KiB
        return list(csv.DictReader(StringIO(text, newline=""), delimiter="," if file.suffix == ".csv" else "\t"))
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in _lines(text)]
    except json.JSONDecodeError as error:
        raise PromptError(f"{file} is not JSON: {error}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise PromptError(f'{file} is not a list of objects: AlpacaEval\'s is [{{"instruction": ..., "output": ...}}]')
    return rows


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]
