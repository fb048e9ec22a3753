"""Everything that can be checked and made before an engine starts.

In: the configuration as written. Out: a `Preparation`: real folders in place of `playground`, every prompt encoded.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sppo_ray.config import Config, JudgeSettings, PromptSource
from sppo_ray.errors import ClusterError, ConfigError, RunFolderError
from sppo_ray.evaluation import Rule
from sppo_ray.judging import judge_kind
from sppo_ray.loss import check_loss
from sppo_ray.planning.splits import ranker_gpus
from sppo_ray.preparation.base_model import check_publishing, read_model
from sppo_ray.prompts import SourcePrompt, chat_template, iteration_prompts, read_prompts
from sppo_ray.records import Prompt, Snapshot
from sppo_ray.reporting.trackers import check_trackers
from sppo_ray.run_folder import Ledger, files
from sppo_ray.training.adapter import check_targets
from sppo_ray.training.optimizer import find_optimizer
from sppo_ray.training.schedule import few_steps

PLAYGROUND, INSTRUCTIONS = "playground", "instructions"


@dataclass(frozen=True)
class PromptReport:
    """What became of the rows of the prompt sources; `report.json` shows it under `prompts`.

    duplicates: dropped because they occurred before.  evaluated: left out because the evaluation asks them.
    skipped: left out because they cannot be used, one phrase each.  cut: prompts that lost their beginning.
    formats: what each source was read as, one phrase each.
    """

    duplicates: int = 0
    evaluated: int = 0
    skipped: list[str] = field(default_factory=list)
    cut: int = 0
    formats: list[str] = field(default_factory=list)

    def notes(self, max_prompt_length: int) -> list[str]:
        """One line for people per fact."""
        counts = {
            "duplicate prompts dropped": self.duplicates,
            "prompts left out of training because evaluation.prompts holds them": self.evaluated,
            f"prompts keep only their last {max_prompt_length} tokens": self.cut,
        }
        notes = [f"prompts read from {source}" for source in self.formats]
        notes += [f"{count} {what}" for what, count in counts.items() if count]
        return notes + [f"left out: {row}" for row in self.skipped]


@dataclass(frozen=True)
class Preparation:
    """A run that is ready to start. config has real paths; prompts[0] are the held-out ones, prompts[t] those of iteration t.

    first: the first prompt of iteration 1, as text.  rendered: that prompt by the chat template.
    """

    config: Config
    base: Snapshot
    stop_token_ids: list[int]
    prompts: list[list[Prompt]]
    rule: Rule | None
    prompt_report: PromptReport = field(default_factory=PromptReport)
    first: SourcePrompt | None = None
    rendered: str = ""


def prepare(config: Config, say: Callable[[str], None] = print) -> Preparation:
    """Resolve models and prompts, and check them. Raises a `UserError` for whatever the user has to correct."""
    check_trackers(config.trackers)
    config, rule = resolve(config, say)
    for judge in config.judges:
        judge_kind(judge).check()
    check_loss(config.training.loss, config.training.eta)
    find_optimizer(config.training.optimizer)
    if config.rankers.gpus and not ranker_gpus(config):
        say(f"judge.kind={config.judge.kind} needs no GPU: rankers.gpus=0 leaves it to the other roles")
    model = read_model(config.policy)
    config = config.model_copy(update={"policy": model.settings})
    check_targets(config)
    check_publishing(config.policy)
    needed = config.policy.max_prompt_length + config.generation.max_new_tokens
    if needed > model.context:
        raise ConfigError(
            f"policy.max_prompt_length + generation.max_new_tokens is {needed} tokens, "
            f"{config.policy.model} holds {model.context}: lower one of them"
        )
    texts, report = _read(config)
    prompts = []
    for number, part in enumerate(texts):
        source = config.evaluation.prompts if number == 0 and config.evaluation.prompts else config.prompts
        encoded = (
            chat_template.encode(
                model.encoder,
                part,
                max_prompt_length=config.policy.max_prompt_length,
                context=model.context,
                skip_bad=source.skip_bad_rows,
            )
            if part
            else chat_template.Encoded([], 0, [])
        )
        prompts.append(encoded.prompts)
        name = f"iteration {number}" if number else "held out"
        skipped = report.skipped + [f"{name}, {row}" for row in encoded.skipped]
        report = replace(report, skipped=skipped, cut=report.cut + encoded.truncated)
    notes = report.notes(config.policy.max_prompt_length)
    for iteration, encoded_part in enumerate(prompts[1:], 1):
        if few := few_steps(config.training, len(encoded_part)):
            notes.append(f"iteration {iteration}: {few}")
    for note in notes:
        say(note)
    each = ", ".join(str(len(part)) for part in prompts[1:])
    say(f"prompts of each iteration: {each}; held out: {len(prompts[0])}")
    first = next(prompt for prompt in texts[1] if prompt.prompt_id == prompts[1][0].prompt_id)
    base, rendered = Snapshot(0, config.policy.model), model.encoder.render(first.messages)
    return Preparation(config, base, model.stop_token_ids, prompts, rule, report, first, rendered)


def resolve(config: Config, say: Callable[[str], None] = print) -> tuple[Config, Rule | None]:
    """The configuration with absolute paths, real ones in place of `playground` and `instructions`, and their rule, if one is used.

    Engines work in other folders, and on other machines, than the driver.
    """
    rule = None
    if PLAYGROUND in (config.policy.model, *(judge.model for judge in config.judges), *_sources(config)):
        config, rule = _build_playground(config, say)
    if INSTRUCTIONS in _sources(config):
        from sppo_ray import instructions

        config, rule = _with_prompts(config, INSTRUCTIONS, instructions.prompt_folder()), instructions.constraint_score
    return resolve_judges(config, say), rule


def resolve_judges(config: Config, say: Callable[[str], None]) -> Config:
    """The configuration with absolute paths, and real ones in place of the judge `playground`."""

    def model(settings: JudgeSettings) -> str:
        if settings.endpoint is not None or settings.model != PLAYGROUND:
            return settings.model
        if settings.kind == "python":
            return "sppo_ray.playground:rule_scores"
        from sppo_ray import playground

        world = playground.build(log=say)
        return str(playground.build_reward(world, log=say) if settings.kind == "reward" else world.judge)

    config = absolute_paths(config)
    training, *others = [judge.model_copy(update={"model": model(judge)}) for judge in config.judges]
    evaluation = config.evaluation.model_copy(update={"judge": others[0] if others else None})
    return config.model_copy(update={"judge": training, "evaluation": evaluation})


def absolute_paths(config: Config) -> Config:
    """The configuration with absolute paths of its models and prompts, which then mean the same in any folder."""

    def at(settings: Any, *keys: str) -> Any:
        return settings and settings.model_copy(update={k: absolute(n) for k in keys if (n := getattr(settings, k))})

    def judge(settings: Any) -> Any:  # an endpoint's own names are no paths
        return at(settings, *(["prompt"] if settings and settings.endpoint else ["model", "prompt"]))

    asked = config.evaluation
    return config.model_copy(
        update={
            "policy": at(config.policy, "model"),
            "prompts": at(config.prompts, "source"),
            "judge": judge(config.judge),
            "evaluation": asked.model_copy(
                update={"prompts": at(asked.prompts, "source"), "judge": judge(asked.judge)}
            ),
        }
    )


def absolute(name: str) -> str:
    """The absolute path of a file or folder of this machine; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() and name not in (PLAYGROUND, INSTRUCTIONS) else name


def store_prompts(ledger: Ledger, prompts: list[list[Prompt]], report: PromptReport = PromptReport()) -> None:
    """Write each iteration's prompts into the run folder, where they are not there yet, and what was left out.

    Raises `RunFolderError` where others are there: the source has changed since the run began.
    """
    for iteration, part in enumerate(prompts):
        if not ledger.has_prompts(iteration):
            ledger.write_prompts(iteration, part)
        elif [(one.prompt_id, one.text) for one in ledger.prompts(iteration)] != [
            (one.prompt_id, one.text) for one in part
        ]:
            raise RunFolderError(
                f"{ledger.root}: the prompts of {f'iteration {iteration}' if iteration else 'the evaluation'} are not those "
                "that the run began with: restore what prompts.source held then, or choose another --run-dir"
            )
    files.write_json(ledger.prompt_report(), asdict(report))


def check_cluster(config: Config, resources: dict[str, float]) -> None:
    """Raise `ClusterError` if trainers and the smallest pools together need more than the cluster has."""
    workers, devices = config.training.workers, resources.get("GPU", 0.0)
    if 0 < config.training.gpus < 1 and workers > devices:
        raise ClusterError(
            f"training.workers is {workers}, each on a GPU of its own, of which it takes a share; the cluster has "
            f"{devices:g} GPUs: lower it, or join more nodes"
        )
    roles = [
        ("training.workers", config.training.workers, config.training.cpus, config.training.gpus),
        ("generators.min", config.generators.min, config.generators.cpus, config.generator_gpus),
        ("rankers.min", config.rankers.min, config.rankers.cpus, config.rankers.gpus),
    ]
    for index, resource in ((2, "CPU"), (3, "GPU")):
        needs = [(role[0], role[1], role[1] * float(role[index])) for role in roles]
        total, has = sum(need for _, _, need in needs), resources.get(resource, 0.0)
        if total > has + 1e-6:  # shares of a GPU do not add up exactly
            whole = resource == "GPU" and config.placement == "colocated" and config.training.gpus >= 1
            parts = ", ".join(f"{need:g} for {key} = {count}" for key, count, need in needs)
            raise ClusterError(
                f"the run needs {total:g} {resource}s ({parts}); the cluster has {has:g}: "
                "lower these keys, or join more nodes"
                + ("; colocated roles share GPUs with the settings that jobs/plan.py prints" if whole else "")
            )


def _sources(config: Config) -> list[str]:
    return [config.prompts.source] + ([config.evaluation.prompts.source] if config.evaluation.prompts else [])


def _build_playground(config: Config, say: Callable[[str], None]) -> tuple[Config, Rule]:
    from sppo_ray import playground

    world = playground.build(log=say)
    if config.policy.model == PLAYGROUND:
        policy = config.policy.model_copy(update={"model": str(world.policy)})
        config = config.model_copy(update={"policy": policy})
    return _with_prompts(config, PLAYGROUND, world.prompts), playground.rule_score


def _with_prompts(config: Config, name: str, folder: Path) -> Config:
    """The configuration with the prompts of this folder in place of the name of a built-in source."""
    update: dict[str, Any] = {}
    if config.prompts.source == name:
        split = {"source": str(folder), "split": "train_iteration_{iteration}"}
        update["prompts"] = config.prompts.model_copy(update=split)
    held_out = config.evaluation.prompts
    if held_out is not None and held_out.source == name:
        source = held_out.model_copy(update={"source": str(folder), "split": "held_out"})
        update["evaluation"] = config.evaluation.model_copy(update={"prompts": source})
    return config.model_copy(update=update)


def _read(config: Config) -> tuple[list[list[SourcePrompt]], PromptReport]:
    apart: PromptSource | None = config.evaluation.prompts
    asked = read_prompts(apart, seed=config.seed) if apart else None
    found = iteration_prompts(
        config.prompts,
        config.iterations,
        config.seed,
        held_out=0 if apart else config.evaluation.held_out,
        evaluated=asked.prompts if asked else (),
    )
    report = PromptReport(found.duplicates, found.evaluated, found.skipped, formats=found.formats)
    if asked is None:
        return [found.held_out, *found.iterations], report
    report = replace(
        report,
        duplicates=report.duplicates + asked.duplicates,
        skipped=report.skipped + asked.skipped,
        formats=report.formats + asked.formats,
    )
    return [asked.prompts, *found.iterations], report
