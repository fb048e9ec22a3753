"""Models that are asked outside a run: under which configuration, which one a person means, prompts in its own tokens.

In: a run folder or a configuration; `base`, the number of an iteration, a model folder or a hub name; prompts as text.
Out: a `EvaluationSetup` and its `EvaluatedModel`s, with every fault of the input found before an engine starts.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sppo_ray.config import Config, load_config
from sppo_ray.errors import ConfigError, ModelError, PromptError, RunFolderError
from sppo_ray.evaluation import Rule
from sppo_ray.judging import answers, judge_kind
from sppo_ray.models import is_hub_name
from sppo_ray.preparation.base_model import read_model
from sppo_ray.preparation.run import PromptReport, absolute, resolve
from sppo_ray.prompts import SourcePrompt, chat_template, iteration_prompts, read_prompts
from sppo_ray.records import Candidates, Prompt, Snapshot
from sppo_ray.run_folder import Ledger, local, location
from sppo_ray.run_folder.adapters import base_of


@dataclass(frozen=True)
class EvaluationSetup:
    """What an evaluation plays on. stored: the run's own answers to its held-out prompts are those asked for."""

    config: Config
    ledger: Ledger | None
    rule: Rule | None
    stored: bool


@dataclass(frozen=True)
class EvaluatedModel:
    """A model and the prompts that it is asked. config: the run's, with this model and the prompt length it takes."""

    name: str
    config: Config
    snapshot: Snapshot
    stop_token_ids: list[int]
    prompts: list[Prompt]


def _answering(config: Config) -> tuple[object, ...]:
    """The settings that answers depend on."""
    evaluation = config.evaluation.model_copy(update={"judge": None})
    return config.prompts, config.policy, config.generation, evaluation


def open_setup(run_dir: str | None, recipe: str | None, file: Path | None, overrides: list[str]) -> EvaluationSetup:
    """The configuration of a run folder, a recipe or a file, with overrides; its judge is checked."""
    if not (run_dir or recipe or file):
        raise ConfigError("say how to sample and judge: --run-dir DIR, --recipe NAME or --config FILE")
    if run_dir is not None:
        file = location(run_dir) / "config.yaml"
        if not file.is_file():
            raise RunFolderError(f"{run_dir} is no run folder: it holds no config.yaml")
    written, config = load_config(recipe, file), load_config(recipe, file, overrides)
    same = _answering(config) == _answering(written)
    config, rule = resolve(config, lambda line: print(line, file=sys.stderr))
    for judge in config.judges:
        judge_kind(judge).check()
    ledger = Ledger(file.parent) if run_dir is not None and file is not None else None
    return EvaluationSetup(config, ledger, rule, stored=same and ledger is not None)


def stored_answers(setup: EvaluationSetup, name: str, responses: int) -> list[Candidates] | None:
    """The answers that a run's snapshot gave to its held-out prompts, where the run has them all."""
    if not setup.stored or setup.ledger is None or not (name == "base" or name.isdecimal()):
        return None
    snapshot = find_snapshot(name, setup)
    rows = setup.ledger.held_out(0 if name == "base" else int(name))
    if not rows or len(rows) != len(setup.ledger.prompts(0)) or len(rows[0].responses) != responses:
        return None
    model = local(snapshot).uri
    return answers(rows, read_model(setup.config.policy.model_copy(update={"model": base_of(model)})).settings.thoughts)


def find_snapshot(name: str, setup: EvaluationSetup) -> Snapshot:
    """The snapshot that a name stands for: `base`, the number of an iteration of the run, a model folder or hub name."""
    config, ledger = setup.config, setup.ledger
    if name == "base":
        return Snapshot(0, config.policy.model)
    if name.isdecimal():
        if ledger is None:
            raise RunFolderError(f"{name} is the number of an iteration: name its run with --run-dir")
        return ledger.published(int(name)) if int(name) else Snapshot(0, config.policy.model)
    if not Path(name).expanduser().is_dir() and not is_hub_name(name):
        raise ModelError(f"{name}: no such model: give `base`, the number of an iteration, or a model's folder")
    return Snapshot(0, absolute(name))


def held_out_prompts(config: Config) -> list[SourcePrompt]:
    """The held-out prompts of a configuration, those that a run with it evaluates on."""
    apart, count = config.evaluation.prompts, config.evaluation.held_out
    if apart is not None:
        found = read_prompts(apart, seed=config.seed)
        _say(PromptReport(found.duplicates, skipped=found.skipped).notes(config.policy.max_prompt_length))
        return found.prompts
    if not count:
        raise PromptError("there are no held-out prompts: give a file with --prompts, or set evaluation.held_out")
    return iteration_prompts(config.prompts, config.iterations, config.seed, held_out=count).held_out


def evaluated_model(
    name: str, setup: EvaluationSetup, prompts: Sequence[SourcePrompt], cut: bool = True
) -> EvaluatedModel:
    """A model with the prompts encoded through its own chat template.

    cut: keep `policy.max_prompt_length` tokens of a prompt and leave out what the context cannot hold, as in training;
    else keep every prompt, with all the tokens that the context has room for.
    """
    config = setup.config
    snapshot = local(find_snapshot(name, setup))
    model = read_model(config.policy.model_copy(update={"model": base_of(snapshot.uri)}))
    room = model.context - config.generation.max_new_tokens
    if room < (model.settings.max_prompt_length if cut else 1):
        raise ConfigError(
            f"{snapshot.uri} holds {model.context} tokens, generation.max_new_tokens is "
            f"{config.generation.max_new_tokens}: too few are left for prompts; lower it"
        )
    limit = model.settings.max_prompt_length if cut else room
    encoded = chat_template.encode(
        model.encoder,
        prompts,
        max_prompt_length=limit,
        context=model.context if cut else None,
        skip_bad=cut,
    )
    _say(f"{name}, left out: {row}" for row in encoded.skipped)
    _say(f"{name}: {note}" for note in PromptReport(cut=encoded.truncated).notes(limit))
    longest = max((len(prompt.token_ids) for prompt in encoded.prompts), default=1)
    policy = model.settings.model_copy(update={"max_prompt_length": longest})
    return EvaluatedModel(
        name, config.model_copy(update={"policy": policy}), snapshot, model.stop_token_ids, encoded.prompts
    )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)
