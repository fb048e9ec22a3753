"""Score a file of prompts and responses with any judge, and report what the judge does.

    sppo-ray judge FILE [--output FILE] [--recipe NAME | --config FILE] [key.path=value ...]

`python jobs/judge.py` is the same. FILE: .json, .jsonl, .parquet or a data set, with a column `prompt` (or `instruction`) and
a column `responses` (or `candidates`) of two texts or more. Writes one row per prompt to --output, with comparisons and win rates,
and prints the judge's report as JSON; progress goes to stderr. With `evaluation.judge` set, both judges score, and the report says
how far they agree. Judges run in this process: on its GPU where `rankers.gpus` is above 0, else on the CPU.
Exit status: 0 done, 1 the judge failed, 2 the input is at fault.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from jobs.command_line import add_configuration, command, configuration
from sppo_ray.config import Config, JudgeSettings
from sppo_ray.errors import ConfigError, PromptError
from sppo_ray.evaluation import judge_report
from sppo_ray.judging import Judge, Metered, answer, judge_kind
from sppo_ray.preference import select_pair, win_rates
from sppo_ray.run_folder import files

RESPONSES = ("responses", "candidates")


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sppo-ray judge", description="Score a file of prompts and responses.")
    parser.add_argument("file", metavar="FILE", help="prompts with their responses")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("judged.jsonl"))
    add_configuration(parser)
    given = parser.parse_intermixed_args(arguments)
    report = judge_file(given.file, given.output, configuration(given))
    print(json.dumps(report, indent=2))
    return 0


def judge_file(source: str, output: Path, config: Config) -> dict[str, Any]:
    """Write the judged rows to `output`; returns the report."""
    from sppo_ray.preparation import resolve_judges

    rows = read_rows(source)
    config = resolve_judges(config, lambda line: print(line, file=sys.stderr))
    for settings in config.judges:
        judge_kind(settings).check()
    places: dict[int, list[int]] = {}  # of the rows with this many responses
    for place, (_, responses) in enumerate(rows):
        places.setdefault(len(responses), []).append(place)
    shown = [(prompt, [answer(text, config.policy.thoughts) for text in texts]) for prompt, texts in rows]
    found: list[dict[str, Any]] = [{"prompt": prompt, "responses": responses} for prompt, responses in rows]
    groups, judges = [], []
    for name, settings in zip(["", "evaluation_"], config.judges, strict=False):
        judge = judge_kind(settings).load(device(config))
        logits, truncated, seconds = score(judge, settings.model, config.block, shown, list(places.values()))
        groups.append(logits)
        judges.append(judge_report.describe(logits, np.concatenate(truncated), seconds, settings))
        if isinstance(judge, Metered):
            judges[-1] |= {"usage": asdict(judge.usage)}
        for group, own, cut in zip(places.values(), logits, truncated, strict=True):
            for place, comparisons, share in zip(group, own, cut, strict=True):
                judged = about(comparisons, settings) | {"truncated": float(share)}
                found[place] |= {f"{name}{key}": value for key, value in judged.items()}
    files.write_json_lines(output.absolute(), found)
    report: dict[str, Any] = {"output": str(output), "prompts": len(rows), "judges": judges}
    if len(groups) == 2:
        report["agreement"] = judge_report.agreement(groups[0], groups[1], *config.judges)
    return report


def about(comparisons: NDArray[np.float32], settings: JudgeSettings) -> dict[str, Any]:
    """What the comparisons of one prompt say; null in the file for what is not a number."""
    how = settings.estimator, settings.temperature
    chosen, rejected = select_pair(comparisons, *how)
    rates = win_rates(comparisons, *how)
    return {
        "comparisons": comparisons.tolist(),
        "win_rates": rates.tolist(),
        "chosen": int(chosen),
        "rejected": int(rejected),
    }


def score(
    judge: Judge, name: str, block: int, rows: list[tuple[str, list[str]]], groups: list[list[int]]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]], float]:
    """Comparisons and truncation of each group of rows, and the seconds that the judge took for them. name: for the bar."""
    comparisons, truncated, seconds = [], [], 0.0
    with tqdm(total=len(rows), desc=name, unit=" prompts") as bar:
        for group in groups:
            parts = []
            for start in range(0, len(group), block):
                part = [rows[place] for place in group[start : start + block]]
                texts = [prompt for prompt, _ in part], [responses for _, responses in part]
                began = time.perf_counter()
                logits = judge.compare(*texts)
                seconds += time.perf_counter() - began
                parts.append((logits, judge.truncated(*texts)))
                bar.update(len(part))
            comparisons.append(np.concatenate([logits for logits, _ in parts]))
            truncated.append(np.concatenate([cut for _, cut in parts]))
    return comparisons, truncated, seconds


def device(config: Config) -> str:
    import torch

    if config.rankers.gpus and not torch.cuda.is_available():
        raise ConfigError(
            f"rankers.gpus is {config.rankers.gpus:g} and this machine has no GPU: rankers.gpus=0 judges on its CPU"
        )
    return "cuda" if config.rankers.gpus else "cpu"


def read_rows(source: str) -> list[tuple[str, list[str]]]:
    """Prompts with their responses. Raises `PromptError` naming the rows that cannot be judged."""
    from sppo_ray.prompts import BadRow, columns_read, open_table, parse_row, transcript

    table = open_table(source)
    prompts, responses = (
        next((name for name in names if name in table.columns), None)
        for names in (("prompt", "instruction"), RESPONSES)
    )
    if prompts is None or responses is None:
        raise PromptError(
            f"{table.where} has the columns {', '.join(table.columns)}: give it `prompt` and `responses`, a list of texts"
        )
    rows, bad = [], []
    for place, row in table.rows([*columns_read(prompts, table.columns), responses]):
        texts = row[responses]
        try:
            prompt = transcript(parse_row(row, prompts))
        except BadRow as reason:
            bad.append(f"{place}{reason}")
            continue
        if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) for text in texts):
            bad.append(f"{place}: {responses!r} is not a list of two texts or more")
            continue
        rows.append((prompt, texts))
    if bad:
        more = f"; {len(bad) - 3} more" if len(bad) > 3 else ""
        raise PromptError(f"{table.where}: {'; '.join(bad[:3])}{more}: correct these rows")
    return rows


if __name__ == "__main__":
    sys.exit(main())
