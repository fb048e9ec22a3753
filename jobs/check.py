"""Everything that a run checks before an engine starts, and nothing else: no cluster, no engine, nothing written.

    sppo-ray check [--json] [--recipe NAME | --config FILE] [--run-dir DIR] [key.path=value ...]

`python jobs/sppo.py --check` is the same. Exit status: 0 the run can start, 2 the input is at fault.
"""

import argparse
import json
import sys
from typing import Any

from jobs.command_line import add_configuration, command, configuration
from sppo_ray.preparation import Preparation, about, absolute_paths, prepare
from sppo_ray.run_folder import Ledger, location


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="sppo-ray check", description="Read and check prompts, models and settings, and start nothing."
    )
    add_configuration(parser)
    parser.add_argument("--run-dir", metavar="DIR", help="an existing run folder is compared with the configuration")
    parser.add_argument("--json", action="store_true", help="print the result as JSON; notes go to stderr")
    given = parser.parse_intermixed_args(arguments)
    notes = sys.stderr if given.json else sys.stdout
    config = absolute_paths(configuration(given))
    preparation = prepare(config, lambda line: print(line, file=notes, flush=True))
    if given.run_dir is not None and (root := location(given.run_dir)).joinpath("config.yaml").exists():
        Ledger(root).claim(config, about())  # of an existing run: compares, and writes nothing
    found = result(preparation)
    print(json.dumps(found) if given.json else "\n".join(lines(found, preparation)))
    return 0


def result(preparation: Preparation) -> dict[str, Any]:
    report, first = preparation.prompt_report, preparation.first
    assert first is not None  # an iteration without prompts is refused
    return {
        "iterations": [len(part) for part in preparation.prompts[1:]],
        "held_out": len(preparation.prompts[0]),
        "duplicates": report.duplicates,
        "skipped": report.skipped,
        "cut": report.cut,
        "first": {
            "messages": list(first.messages),
            "rendered": preparation.rendered,
            "token_ids": preparation.prompts[1][0].token_ids,
            "judge_text": first.text,
        },
    }


def lines(found: dict[str, Any], preparation: Preparation) -> list[str]:
    """The result for people; `prepare` has said the rest."""
    first = found["first"]
    return [
        "",
        "first prompt of iteration 1:",
        *(f"  {turn['role']}: {turn['content']!r}" for turn in first["messages"]),
        f"rendered by the chat template: {first['rendered']!r}",
        f"{len(first['token_ids'])} token ids: {' '.join(map(str, first['token_ids']))}",
        f"shown to the judge: {first['judge_text']!r}",
        f"thoughts that the judge is not shown: {preparation.config.policy.thoughts or 'none'}",
        f"sampling stops at token ids: {' '.join(map(str, preparation.stop_token_ids))}",
    ]


if __name__ == "__main__":
    sys.exit(main())
