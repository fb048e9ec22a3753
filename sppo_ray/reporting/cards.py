"""The model card of a published policy, in the manner of UCLA-AGI/Gemma-2-9B-It-SPPO-Iter3's.

In: the ledger. Out: the README.md of each policy folder.
A policy is published before it is evaluated, so all cards are written again after each evaluation. Hence manifest.json,
which seals what engines load, does not cover README.md.
"""

from html import escape
from pathlib import Path
from typing import Any

import yaml

from sppo_ray.config import Config, JudgeSettings, anchors
from sppo_ray.judging import judge_kind
from sppo_ray.models import is_hub_name
from sppo_ray.run_folder import Ledger, files
from sppo_ray.training.optimizer import describe

CARD = "README.md"
CITATION = """@misc{wu2024selfplay,
  title = {Self-Play Preference Optimization for Language Model Alignment},
  author = {Wu, Yue and Sun, Zhiqing and Yuan, Huizhuo and Ji, Kaixuan and Yang, Yiming and Gu, Quanquan},
  year = {2024},
  eprint = {2405.00675},
  archivePrefix = {arXiv},
  primaryClass = {cs.LG}
}"""


def write_cards(ledger: Ledger) -> None:
    """Write the card of every published policy anew, with what is known by now."""
    config = ledger.config()
    for iteration in range(1, config.iterations + 1):
        if ledger.snapshot(iteration) is not None:
            text = model_card(config, iteration, ledger.reports())
            files.write_bytes(ledger.iteration(iteration) / "policy" / CARD, text.encode())


def model_card(
    config: Config, iteration: int, reports: list[dict[str, Any]], linked: bool = True, merged: bool = False
) -> str:
    """The card of an iteration's policy; reports: of the iterations that are evaluated.

    linked: the other iterations lie beside it.  merged: the adapter is added to the base, and the policy a plain model.
    """
    last = max([iteration, *(row["iteration"] for row in reports)])
    sections = [
        f"---\n{yaml.safe_dump(front_matter(config, merged), sort_keys=False)}---",
        f"# {config.recipe}, SPPO iteration {iteration}",
        _introduction(config, iteration),
        *(["## Links to other models\n\n" + _links(last, iteration)] if linked else []),
        "## Model description\n\n" + _description(config),
        "## Evaluation results\n\n" + _results(config, iteration, reports),
        *_warnings(iteration, reports),
        "## Training hyperparameters\n\n" + _table(("hyperparameter", "value"), hyperparameters(config)),
        f"## Citation\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def front_matter(config: Config, merged: bool = False) -> dict[str, Any]:
    """What the Hugging Face hub reads of a card. Prompts from files or the playground are no data set of the hub."""
    hub_data = is_hub_name(config.prompts.source)
    return {
        "library_name": "peft" if config.training.adapter.rank and not merged else "transformers",
        "pipeline_tag": "text-generation",
        "base_model": shown_name(config.policy.model),
        **({"datasets": [config.prompts.source]} if hub_data else {}),
        "tags": ["sppo", "self-play", "preference-optimization", "alignment"],
    }


def hyperparameters(config: Config) -> list[tuple[str, str]]:
    training, generation, judge = config.training, config.generation, config.judge
    share = training.batch_size // training.workers
    lora = training.adapter
    targets = lora.targets if isinstance(lora.targets, str) else ", ".join(lora.targets)
    adapter = f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout:g}, on {targets}"
    return [
        ("learning_rate", f"{training.learning_rate:g}"),
        ("eta", f"{training.eta:g}"),
        ("loss", training.loss),
        *((("adapter", adapter),) if lora.rank else ()),
        ("anchors", anchors(config)),
        ("total_train_batch_size", f"{training.batch_size} pairs"),
        ("per_device_train_batch_size", str(min(training.micro_batch_size, share))),
        ("distributed_type", f"DeepSpeed ZeRO-3, {training.workers} devices"),
        ("optimizer", describe(training)),
        ("lr_scheduler_type", training.schedule),
        ("lr_scheduler_warmup_ratio", f"{training.warmup_ratio:g}"),
        ("max_grad_norm", f"{training.max_grad_norm:g}"),
        ("iterations start from", "float32 weights" if training.carry == "master" else "the published snapshot"),
        ("num_train_epochs", f"{training.epochs} per iteration"),
        ("max_length, max_prompt_length", f"{config.policy.max_length}, {config.policy.max_prompt_length} tokens"),
        ("dtype", config.policy.dtype),
        ("candidates per prompt", str(generation.candidates)),
        ("temperature, top_p", f"{generation.temperature:g}, {generation.top_p:g}"),
        ("max_new_tokens", str(generation.max_new_tokens)),
        ("judge", _judge(judge)),
        *((("judge of the evaluation", _judge(evaluation)),) if (evaluation := config.evaluation.judge) else ()),
        ("win rates", f"{judge.estimator}, judge temperature {judge.temperature:g}"),
        ("seed", str(config.seed)),
    ]


def _judge(settings: JudgeSettings) -> str:
    return f"{shown_name(settings.model)} ({judge_kind(settings).description()})"


def shown_name(model: str) -> str:
    """A hub name as it is, and of a path its last part: a card says nothing of the machine that made it."""
    return model if is_hub_name(model) else Path(model).name


def _introduction(config: Config, iteration: int) -> str:
    return (
        "This model was made with [Self-Play Preference Optimization](https://arxiv.org/abs/2405.00675), iteration "
        f"{iteration} of {config.iterations}, from {_link(config.policy.model)}. The prompts are those of "
        f"{_link(config.prompts.source, 'datasets/')}, a part of them for each iteration. All responses are the policy's "
        f"own, {config.generation.candidates} per prompt, compared by the judge {_link(config.judge.model)}."
    )


def _description(config: Config) -> str:
    return "\n".join(
        [
            "- Model type: causal language model, fine-tuned on its own responses",
            f"- Finetuned from model: {_link(config.policy.model)}",
            f"- Recipe: `{config.recipe}` of sppo-ray",
            "- License: that of the model it is fine-tuned from",
        ]
    )


def _links(last: int, own: int) -> str:
    names = {t: f"Iteration {t}" for t in range(1, last + 1)}
    return "\n".join(
        f"- {name} (this model)" if t == own else f"- [{name}](../../iter-{t}/policy)" for t, name in names.items()
    )


def _results(config: Config, iteration: int, reports: list[dict[str, Any]]) -> str:
    other = config.evaluation.judge
    both = ("training judge, vs base",) if other else ()
    header = ("iteration", "win rate vs base", "LC win rate vs base", "win rate vs previous", "mean length", *both)
    rows = [
        (
            f"**{row['iteration']}**" if row["iteration"] == iteration else str(row["iteration"]),
            _rate(row, "win_rate_vs_base"),
            _rate(row, "lc_win_rate_vs_base"),
            _rate(row, "win_rate_vs_previous"),
            "–" if row["mean_response_tokens"] is None else f"{row['mean_response_tokens']:.1f} tokens",
            *(_rate(row, "training_judge_win_rate_vs_base") for _ in both),
        )
        for row in reports
    ]
    if iteration not in [row["iteration"] for row in reports]:
        rows.append((f"**{iteration}**", "not evaluated yet", *[""] * (len(header) - 2)))
    whose = f"those of {_link(other.model)}, which did not train the policy," if other else "the judge's,"
    return (
        f"Win rates are {whose} in %, on held-out prompts, ties counted half, with bootstrap 95 % intervals; "
        "LC: length-controlled, as if both responses were equally long.\n\n" + _table(header, rows)
    )


def _rate(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        return "–"
    low, high = row[f"{key}_interval"]
    return f"{100 * row[key]:.2f} ({100 * low:.1f} to {100 * high:.1f})"


def _warnings(iteration: int, reports: list[dict[str, Any]]) -> list[str]:
    """Of the card's own iteration. They may quote what a model wrote, so markup in them is escaped."""
    own = [row["diagnostics"] for row in reports if row["iteration"] == iteration]
    found = [words for diagnostics in own for words in diagnostics.get("warnings", [])]
    lines = [f"- {escape(words, quote=False).replace('`', '&#96;')}" for words in found]
    return ["## Warnings of the diagnostics\n\n" + "\n".join(lines)] if lines else []


def _link(name: str, kind: str = "") -> str:
    return f"[{name}](https://huggingface.co/{kind}{name})" if is_hub_name(name) else f"`{shown_name(name)}`"


def _table(header: tuple[str, ...], rows: list[Any]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
