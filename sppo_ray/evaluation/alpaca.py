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

    Without a column's name it is `instruction`, else `prompt`. What continues an instruction (`input`) becomes part of
    it, as the annotator's template shows nothing else. Rows without a `dataset` are of one named after the file.
    """
    from sppo_ray.prompts import BadRow, columns_read, open_table, parse_row

    table = open_table(source)
    found = [name for name in ([column] if column else ["instruction", "prompt"]) if name in table.columns]
    if not found:
        raise PromptError(
            f"{table.where} has no column {column or 'instruction'!r}; it has {', '.join(table.columns)}: "
            "name the column of the instructions with --column"
        )
    asked = columns_read(found[0], table.columns)
    kept = [name for name in table.columns if name not in (*asked, *MODELS_OWN)]
    instructions, bad = [], {}
    for place, row in table.rows([*asked, *kept]):
        try:
            messages = parse_row(row, found[0])
            if len(messages) > 1:
                raise BadRow(f" has {len(messages)} turns")
            others = _json_values({name: row[name] for name in kept})
        except BadRow as reason:
            bad[place] = reason
            continue
        dataset = {} if others.get("dataset") else {"dataset": Path(source).stem}
        instructions.append(Instruction(messages[0]["content"], others | dataset))
    if bad:
        places = ", ".join(list(bad)[:NAMED]) + (", ..." if len(bad) > NAMED else "")
        first = "".join(map(str, next(iter(bad.items()))))
        raise PromptError(
            f"{table.where} has no usable instruction in {places}: {first}. AlpacaEval needs one text per row: "
            "correct them, or name another column with --column"
        )
    if not instructions:
        raise PromptError(f"{table.where} has no rows: AlpacaEval needs one text per row")
    return instructions


def _json_values(row: dict[str, Any]) -> dict[str, Any]:
    """A row's other columns as `model_outputs.json` will hold them: dates and decimals as text, no NaN."""
    from pydantic_core import to_jsonable_python

    from sppo_ray.prompts import BadRow

    for name, value in row.items():
        try:
            row[name] = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="null")
            json.dumps(row[name], ensure_ascii=False).encode()
        except ValueError as error:
            raise BadRow(f", column {name!r} cannot be written as JSON ({error})") from None
    return row


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
