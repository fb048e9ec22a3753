"""AlpacaEval's and Arena-Hard's files: instructions and another model's answers in, `model_outputs.json` out, and lengths.

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
IDS = ("uid", "question_id")  # Arena-Hard's, versions 2.0 and 0.1
# What a win rate by one's own judge is not.
BOARDS = (
    "`judge` compares each pair in both orders, with wins 1 and ties 1/2. AlpacaEval 2 asks GPT-4-Turbo once, in random order, counts "
    "its probability, and knows how hard each instruction is in its length-controlled rate. Arena-Hard asks GPT-4.1 or Gemini-2.5 "
    "(GPT-4-Turbo in version 0.1) for a grade of five in both orders, of which the clear ones count three times, and controls "
    "style as well as length."
)


@dataclass(frozen=True)
class Instruction:
    """text: what the model is asked.  row: the other columns, which the output keeps."""

    text: str
    row: dict[str, Any]


def read_instructions(source: str, column: str | None = None) -> list[Instruction]:
    """All instructions of a file or data set, in its order, duplicates included: AlpacaEval pairs outputs by them.

    Without a column's name it is `instruction`, `prompt`, or the one turn of `turns` (Arena-Hard 0.1). What continues an instruction (`input`) becomes part of
    it, as the annotator's template shows nothing else. Rows without a `dataset` are of one named after the file.
    """
    from sppo_ray.prompts import BadRow, columns_read, open_table, parse_row

    table = open_table(source)
    found = [name for name in ([column] if column else ["instruction", "prompt", "turns"]) if name in table.columns]
    if not found:
        raise PromptError(
            f"{table.where} has no column {column or 'instruction'!r}; it has {', '.join(table.columns)}: "
            "name the column of the instructions with --column"
        )
    asked = columns_read(found[0], table.columns)
    kept = [name for name in table.columns if name not in (*asked, *MODELS_OWN)]
    instructions, bad = [], {}
    for place, row in table.rows([*asked, *kept]):
        if found[0] == "turns":
            row["turns"] = _only_turn(row["turns"])
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


def _only_turn(turns: Any) -> Any:
    match turns:
        case [{"content": text}]:
            return text
    return turns


def read_reference(file: Path, asked: list[Instruction]) -> list[str]:
    """Another model's answer to each instruction, from a file of AlpacaEval's or Arena-Hard's format.

    They are matched by Arena-Hard's ids, or by the text of the instruction; several of one text in their order.
    """
    answers: dict[str, list[str]] = {}
    for number, row in enumerate(_rows(file), 1):
        text = _answer(row)
        if text is None:
            raise PromptError(
                f'{file}: row {number} holds no answer: AlpacaEval\'s rows are {{"instruction": ..., "output": ...}}, '
                'Arena-Hard\'s {"uid": ..., "messages": [...]}'
            )
        for key in _keys(row, row.get("instruction")):
            answers.setdefault(key, []).append(text)
    found = []
    for one in asked:
        known = next((answers[key] for key in _keys(one.row, one.text) if key in answers), None)
        if known is None:
            raise PromptError(f"{file} has no answer to {one.text[:80]!r}: give the answers to the same instructions")
        found.append(known.pop(0) if len(known) > 1 else known[0])
    return found


def _keys(row: dict[str, Any], text: str | None) -> list[str]:
    return [str(key) for key in (*map(row.get, IDS), text) if key is not None]


def _answer(row: dict[str, Any]) -> str | None:
    match row:
        case (
            {"output": str(text)}
            | {"messages": [*_, {"content": {"answer": str(text)}}]}
            | {"messages": [*_, {"role": "assistant", "content": str(text)}]}
            | {"choices": [{"turns": [{"content": str(text)}, *_]}, *_]}
        ):
            return text
    return None


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
