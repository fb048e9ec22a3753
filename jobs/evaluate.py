"""Evaluation of snapshots: win rates by the judge, best-of-n, AlpacaEval and Arena-Hard, lengths of outputs.

    sppo-ray evaluate win-rate A B --run-dir DIR           A and B: base, the number of an iteration, a model folder
    sppo-ray evaluate best-of MODEL --best-of 16 --run-dir DIR
    sppo-ray evaluate alpaca FILE --model MODEL --output model_outputs.json --run-dir DIR [--best-of 16] [--reference FILE]
    sppo-ray evaluate summarize FILE

`python jobs/evaluate.py` is the same. The result is JSON on stdout, progress goes to stderr. Without --run-dir, --recipe
or --config says how to sample and judge; key.path=value overrides. Exit status: 0 done, 1 the evaluation failed, 2 the input is at fault.
"""

import argparse
import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.command_line import command
from sppo_ray.errors import ConfigError, RunFailed, StorageError
from sppo_ray.evaluation import alpaca
from sppo_ray.run_folder import files

# What needs Torch or Ray is imported by the commands that do: `summarize` answers at once.
if TYPE_CHECKING:
    from sppo_ray.preparation.evaluation import EvaluationSetup
    from sppo_ray.records import Candidates


@command
def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    result = given.command(given)
    print(json.dumps(result, indent=2))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sppo-ray evaluate", description="Evaluate snapshots.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    model = "base, the number of an iteration, or a model folder"

    rate = add_command(commands, "win-rate", win_rate, "win rate of A's answers against B's, ties half")
    rate.add_argument("a", metavar="A", help=model)
    rate.add_argument("b", metavar="B", help=model)
    rate.add_argument("--responses", metavar="N", type=positive, help="answers per prompt (default: as configured)")

    best = add_command(commands, "best-of", best_of, "the best of n answers, by the judge, against the first")
    best.add_argument("model", metavar="MODEL", help=model)
    best.add_argument("--best-of", metavar="N", type=positive, default=16)
    best.add_argument("--output", metavar="FILE", type=Path, help="write the best answers, in AlpacaEval's format")

    outputs = add_command(
        commands, "alpaca", answer_instructions, "answer the instructions of AlpacaEval or Arena-Hard"
    )
    outputs.add_argument("file", metavar="FILE", help="instructions: .json, .jsonl, .csv, .parquet, or a data set")
    outputs.add_argument("--model", required=True, metavar="MODEL", help=model)
    outputs.add_argument("--output", metavar="FILE", type=Path, default=Path("model_outputs.json"))
    words = "another model's answers, to compare with: win rates by the (evaluation's) judge"
    outputs.add_argument("--reference", metavar="FILE", type=Path, help=words)
    outputs.add_argument("--best-of", metavar="N", type=positive, default=1, help="by the judge (default: 1, no judge)")
    outputs.add_argument("--name", help="the model's name on the leaderboard (default: recipe and MODEL)")
    outputs.add_argument("--column", help="of the instructions (default: instruction, prompt or turns)")

    summary = commands.add_parser("summarize", help="count and mean length in characters of a file of outputs")
    summary.add_argument("file", metavar="FILE", type=Path)
    summary.set_defaults(command=summarize)

    given, rest = parser.parse_known_args(arguments)
    if rest and (given.command is summarize or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    given.overrides = rest
    return given


def add_command(commands: Any, name: str, command: Any, text: str) -> argparse.ArgumentParser:
    """A command that samples or judges, with the options that say how."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run-dir", metavar="DIR", help="the run whose configuration and snapshots are used")
    which.add_argument("--recipe", metavar="NAME", help="a packaged recipe")
    which.add_argument("--config", metavar="FILE", type=Path, help="a configuration file")
    parser.add_argument("--judge", metavar="MODEL", help="judge.model, in place of the configuration's judges")
    parser.add_argument("--prompts", metavar="SOURCE", help="held-out prompts, in place of the configuration's")
    parser.set_defaults(command=command)
    return parser


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def summarize(given: argparse.Namespace) -> dict[str, Any]:
    return dict(alpaca.summarize(given.file))


def win_rate(given: argparse.Namespace) -> dict[str, Any]:
    from actors.service.answering import sample
    from sppo_ray import evaluation
    from sppo_ray.preparation.evaluation import evaluated_model, held_out_prompts, stored_answers

    setup = scene_of(given)
    responses = given.responses or setup.config.evaluation.responses
    stored = {name: stored_answers(setup, name, responses) for name in (given.a, given.b)}
    prompts = held_out_prompts(setup.config) if None in stored.values() else []
    asked = {name: evaluated_model(name, setup, prompts) for name, rows in stored.items() if rows is None}
    with cluster(setup) as folder:
        answers = {
            name: sample(asked[name], responses, folder / str(number)) if rows is None else rows
            for number, (name, rows) in enumerate(stored.items())
        }
        a, b = evaluation.align(answers[given.a], answers[given.b])
        judged = duels(setup, a, b, folder)
    result: dict[str, Any] = {"a": given.a, "b": given.b, "prompts": len(a), "responses": responses, **judged}
    if setup.rule is not None:
        result["rule_win_rate"] = evaluation.rule_wins(setup.rule, a, b)
    return result


def duels(setup: "EvaluationSetup", a: "list[Candidates]", b: "list[Candidates]", folder: Path) -> dict[str, Any]:
    """What the judge of the evaluation says of a's answers and b's to the same prompts."""
    from actors.service.answering import compare
    from sppo_ray import evaluation

    judge, seed = setup.config.judges[-1], setup.config.seed
    comparisons = compare(setup.config, *evaluation.duels(a, b), folder, judge)
    won = evaluation.wins(comparisons).reshape(len(a), -1)
    per_prompt = won.mean(axis=1).tolist()
    return {
        "judge": judge.model,
        **evaluation.win_rate(per_prompt, seed=seed),
        **evaluation.length_controlled(per_prompt, evaluation.more_characters(a, b), seed=seed),
        "ties": float((won == 0.5).mean()),
        "mean_characters": {"a": evaluation.mean_characters(a), "b": evaluation.mean_characters(b)},
    }


def best_of(given: argparse.Namespace) -> dict[str, Any]:
    from actors.service.answering import compare, sample
    from sppo_ray import evaluation
    from sppo_ray.preparation.evaluation import evaluated_model, held_out_prompts

    if given.best_of < 2:
        raise ConfigError("--best-of 1 leaves no choice: give at least 2; the paper uses 16")
    setup = scene_of(given)
    asked = evaluated_model(given.model, setup, held_out_prompts(setup.config))
    name = leaderboard_name(given, setup)
    instructions = [alpaca.Instruction(prompt.text, {"dataset": "held_out"}) for prompt in asked.prompts]
    if given.output is not None:
        check_output(given.output, instructions, name)
    with cluster(setup) as folder:
        rows = sample(asked, given.best_of, folder)
        comparisons = compare(setup.config, *columns(rows), folder)
        chosen = evaluation.best_of(comparisons, setup.config.judge)
        texts = [row.responses[index] for row, index in zip(rows, chosen, strict=True)]
        if given.output is not None:
            files.write_json(given.output, alpaca.model_outputs(instructions, texts, name))
    result: dict[str, Any] = {"model": given.model, "best_of": given.best_of, "judge": setup.config.judge.model}
    result |= {"prompts": len(rows), "against": "the first of the answers"}
    result |= evaluation.win_rate(evaluation.against_first(comparisons, chosen).tolist(), seed=setup.config.seed)
    lengths = {"best": sum(map(len, texts)) / len(texts), "all": evaluation.mean_characters(rows)}
    return result | {"mean_characters": lengths}


def answer_instructions(given: argparse.Namespace) -> dict[str, Any]:
    from actors.service.answering import compare, sample
    from sppo_ray.evaluation import best_of
    from sppo_ray.preparation.evaluation import evaluated_model
    from sppo_ray.prompts import SourcePrompt
    from sppo_ray.records import Message

    instructions = alpaca.read_instructions(given.file, given.column)
    reference = alpaca.read_reference(given.reference, instructions) if given.reference else None
    prompts = [SourcePrompt(str(n), (Message(role="user", content=i.text),)) for n, i in enumerate(instructions)]
    setup = scene_of(given)
    asked = evaluated_model(given.model, setup, prompts, cut=False)
    name = leaderboard_name(given, setup)
    check_output(given.output, instructions, name)
    with cluster(setup) as folder:
        rows = sample(asked, given.best_of, folder)
        chosen = [0] * len(rows)
        if given.best_of > 1:
            chosen = best_of(compare(setup.config, *columns(rows), folder), setup.config.judge).tolist()
        texts = [row.responses[index] for row, index in zip(rows, chosen, strict=True)]
        files.write_json(given.output, alpaca.model_outputs(instructions, texts, name))
        result: dict[str, Any] = {"output": str(given.output), **alpaca.summarize(given.output)}
        if reference is not None:
            a, b = ([replace(row, responses=[t]) for row, t in zip(rows, of, strict=True)] for of in (texts, reference))
            result["compared"] = {"a": name, "b": str(given.reference), **duels(setup, a, b, folder)}
            result["boards"] = alpaca.BOARDS
    return result


def check_output(output: Path, instructions: list[alpaca.Instruction], name: str) -> None:
    """Write the file without answers under a temporary name: what cannot be written is said before hours of sampling."""
    trial = files.temporary_name(output)
    try:
        if output.is_dir():
            raise IsADirectoryError("it is a folder")
        files.write_json(trial, alpaca.model_outputs(instructions, [""] * len(instructions), name))
    except (StorageError, OSError, UnicodeEncodeError) as error:
        raise ConfigError(f"--output {output} cannot be written ({error}): name another file") from error
    finally:
        files.discard(trial)


def columns(rows: "list[Candidates]") -> tuple[list[str], list[list[str]]]:
    return [row.prompt for row in rows], [row.responses for row in rows]


def leaderboard_name(given: argparse.Namespace, setup: "EvaluationSetup") -> str:
    """--name, else the recipe with the iteration, or the folder's name; best-of-n is part of the name."""
    if getattr(given, "name", None):
        return str(given.name)
    model = Path(given.model).name
    if model == "base" or model.isdecimal():
        model = f"{setup.config.recipe}-{'base' if model == 'base' else f'iter{model}'}"
    return f"{model}-best-of-{given.best_of}" if given.best_of > 1 else model


def scene_of(given: argparse.Namespace) -> "EvaluationSetup":
    from sppo_ray.preparation.evaluation import open_setup

    options = {"judge.model": given.judge, "evaluation.prompts": given.prompts and {"source": given.prompts}}
    overrides = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in options.items() if value]
    overrides += ["evaluation.judge=null"] if given.judge else []
    overrides += given.overrides  # these may say more of the same sections
    return open_setup(given.run_dir, given.recipe, given.config, overrides)


@contextmanager
def cluster(setup: "EvaluationSetup") -> Iterator[Path]:
    """Ray, joined and found large enough for the pools, and a folder for answers that every node reaches."""
    import ray

    from actors.cluster.connection import connect
    from actors.engines import most_resources
    from jobs.sppo import default_root
    from sppo_ray.preparation import check_cluster

    print(connect(), file=sys.stderr)
    training = setup.config.training.model_copy(update={"workers": 0})
    check_cluster(setup.config.model_copy(update={"training": training}), most_resources())
    root = setup.ledger.root if setup.ledger else default_root().resolve()
    folder = root / f"evaluation-{uuid.uuid4().hex[:8]}"
    done = False
    try:
        yield folder
        done = True
    except ray.exceptions.RayError as error:
        raise RunFailed(str(error)) from error
    finally:
        if done or not any(folder.rglob("*.parquet")):
            files.remove(folder)
        else:
            print(f"the answers so far are kept in {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
