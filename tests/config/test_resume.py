"""What may change when a run is continued, and that every remedy which the project advises is among it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sppo_ray.config import changes, load_config
from sppo_ray.config.reference import keys
from tests import ROOT

FREE = {key for key, _, free in keys() if free}
BOUND = {key for key, _, free in keys() if not free}


def test_what_keeps_the_numbers_may_change():
    """Memory, resources, tolerances, permissions, where the reference is computed, and what is kept and shown."""
    pools = [f"{pool}.{key}" for pool in ("generators", "rankers") for key in (
        "min", "max", "cpus", "gpus", "labels", "blocks", "shrink_idle", "hang_seconds", "tries",
    )]  # fmt: skip
    training = [f"training.{key}" for key in (
        "micro_batch_size", "micro_batch_tokens", "gradient_checkpointing", "compile", "offload", "reference", "reference_tolerance",
        "checkpoint_minutes", "checkpoint_steps", "max_failures", "workers", "cpus", "gpus", "labels",
    )]  # fmt: skip
    judge = [f"{section}.{key}" for section in ("judge", "evaluation.judge") for key in (
        "batch_tokens", "endpoint", "tensor_parallel", "api_key_env", "requests", "price.input", "price.output", "budget",
    )]  # fmt: skip
    assert set(pools + training + judge) < FREE
    assert FREE - set(pools + training + judge) == {
        "policy.trust_remote_code", "policy.publish_dtype", "generation.gpu_memory_utilization", "generation.max_sequences",
        "generation.tensor_parallel",
        "placement", "max_set_aside",
        "prompts.source", "evaluation.prompts.source", "storage.keep_snapshots", "storage.keep_checkpoints",
        "gateway.host", "gateway.port", "gateway.chats", "trackers",
    }  # fmt: skip


def test_what_changes_them_may_not():
    assert {"seed", "block", "training.eta", "training.batch_size", "policy.max_length", "policy.dtype"} < BOUND
    assert {"generation.temperature", "judge.model", "prompts.split", "evaluation.held_out"} < BOUND


def test_changes_name_each_key_with_both_values():
    overrides = ["training.eta=7", "generators.max=4", "evaluation.prompts=null"]
    found = {change.key: change for change in changes(load_config(), load_config(overrides=overrides))}
    assert (found["training.eta"].old, found["training.eta"].new, found["training.eta"].free) == (5.0, 7.0, False)
    assert found["generators.max"].free and found["generators.max"].new == 4
    assert found["evaluation.prompts.source"].new is None
    skip = "evaluation.prompts.skip_bad_rows"
    assert set(found) == {"training.eta", "generators.max", "evaluation.prompts.source", skip}


ADVICE = re.compile(r"\b(add|choose|correct|drop|increase|leave|lower|make|name|raise|reduce|set|shrink|use)\b", re.I)
KEY = re.compile(
    "|".join(rf"(?<![\w.]){re.escape(key)}{'' if '.' in key else '='}(?![\w.]*\w)" for key, _, _ in keys())
)
# Raised for what is found before a run starts, and does not depend on where it runs.
BEFORE_A_START = {"ConfigError", "PromptError", "ModelError", "ValueError"}
READ_BEFORE_A_START = "sppo_ray/prompts"


def messages(node: ast.AST, before_a_start: bool = False) -> Iterator[tuple[str, bool]]:
    """Every text of a module that is no docstring, and whether it is of an error that is raised before a start."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Raise):
        before_a_start = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} & BEFORE_A_START != set()
    if isinstance(node, ast.Constant | ast.JoinedStr):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        yield (
            "".join(str(getattr(part, "value", "")) for part in parts if isinstance(part, ast.Constant)),
            before_a_start,
        )
        return
    for child in ast.iter_child_nodes(node):
        yield from messages(child, before_a_start)


def advised() -> Iterator[tuple[Path, str]]:
    """What a started run may say that advises a key: (module, message)."""
    for folder in ("sppo_ray", "actors", "jobs"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            if file.is_relative_to(ROOT / READ_BEFORE_A_START):
                continue
            for text, before_a_start in messages(ast.parse(file.read_text("utf-8"))):
                if not before_a_start and ADVICE.search(text) and KEY.search(text):
                    yield file.relative_to(ROOT), text


def test_every_remedy_is_accepted_on_resume_or_said_to_be_for_a_new_run():
    found = list(advised())
    assert {"sppo_ray/training/memory.py", "sppo_ray/evaluation/exploitation.py"} <= {str(file) for file, _ in found}
    wrong = [
        f"{file}: {text}"
        for file, text in found
        if {key.group().rstrip("=") for key in KEY.finditer(text)} & BOUND and "new run" not in text
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise ConfigError("lower training.eta")', [("lower training.eta", True)]),
        ('raise RunFailed(f"{n}: lower training.eta")', [(": lower training.eta", False)]),
        ('def f():\n    """Lower training.eta."""\n    return "x"', [("x", False)]),
    ],
)
def test_messages_are_told_from_docstrings_and_errors_before_a_start(source, expected):
    assert list(messages(ast.parse(source))) == expected
