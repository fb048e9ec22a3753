"""Tables of prompts as files, and what is read of them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sppo_ray.config import PromptSource
from sppo_ray.prompts import read_prompts


def write(path: Path, rows: list) -> str:
    """The rows in the kind that the file's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".arrow":
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    elif path.suffix in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix == ".tsv" else ","
        quoted = [['"' + str(value).replace('"', '""') + '"' for value in row.values()] for row in rows]
        path.write_text("".join(delimiter.join(fields) + "\n" for fields in [list(rows[0]), *quoted]), "utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(source: str | Path, **settings):
    return read_prompts(PromptSource(source=str(source), **settings), seed=42)


def texts(prompts) -> list[str]:
    return sorted(prompt.text for prompt in prompts)


def numbered(n: int, start: int = 0) -> list[dict]:
    return [{"prompt_id": f"p{i:03}", "prompt": f"Prompt {i}"} for i in range(start, start + n)]


def turns(*pairs: tuple[str, str | None]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in pairs]
