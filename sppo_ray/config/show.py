"""The resolved recipe: what a run would do, before anything is downloaded or started.

In: the configuration. Out: its resolved hyperparameters as YAML, under the names that the published model cards use.
"""

from sppo_ray.config.tree import Config

Row = tuple[str, str]


def resolved(config: Config) -> str:
    """Sections of `key: value` lines; numbers are written as in the model cards (5e-07, 1000)."""
    sections = {
        "run": _run(config),
        "sampling": _sampling(config),
        "judging": _judging(config),
        "training": _training(config),
        "evaluation": _evaluation(config),
        "resources": _resources(config),
    }
    width = max(len(key) for rows in sections.values() for key, _ in rows) + 1
    return "\n".join(
        line
        for title, rows in sections.items()
        for line in [f"{title}:", *(f"  {key + ':':<{width}} {value}" for key, value in rows)]
    )


def accumulation(config: Config) -> int:
    """Forward passes of one worker in an optimizer step, as the model cards count them: by pairs, not by tokens."""
    training = config.training
    return -(-training.batch_size // (training.workers * training.micro_batch_size))


def _run(config: Config) -> list[Row]:
    prompts = config.prompts
    parts = {"subset": prompts.subset, "split": prompts.split, "column": prompts.column}
    which = "".join(f", {name} {value}" for name, value in parts.items() if value)
    return [
        ("recipe", config.recipe),
        ("base_model", config.policy.model),
        ("prompts", f"{prompts.source}{which}"),
        ("iterations", str(config.iterations)),
        ("seed", str(config.seed)),
    ]


def _sampling(config: Config) -> list[Row]:
    generation = config.generation
    return [
        ("candidates", str(generation.candidates)),
        ("temperature", f"{generation.temperature:g}"),
        ("top_p", f"{generation.top_p:g}"),
        ("max_new_tokens", str(generation.max_new_tokens)),
    ]


def _judging(config: Config) -> list[Row]:
    judge = config.judge
    return [
        ("judge", judge.model),
        ("judge_kind", judge.kind),
        ("orders", str(judge.orders)),
        ("estimator", judge.estimator),
        ("judge_temperature", f"{judge.temperature:g}"),
        ("source_max_length", str(judge.source_max_length)),
        ("candidate_max_length", str(judge.candidate_max_length)),
    ]


def anchors(config: Config) -> str:
    """The anchors of the log-ratios, for people."""
    training = config.training
    weights = [f"{name} {weight:.3g}" for name, weight in training.anchors.model_dump().items() if weight]
    moved = [f"base moved every {training.base_every} iterations"] if training.base_every else []
    return ", ".join(weights + moved)


def _training(config: Config) -> list[Row]:
    training, policy = config.training, config.policy
    return [
        ("loss", training.loss),
        ("anchors", anchors(config)),
        ("learning_rate", f"{training.learning_rate:g}"),
        ("eta", f"{training.eta:g}"),
        ("per_device_train_batch_size", str(training.micro_batch_size)),
        ("tokens_a_forward_pass", f"{training.micro_batch_tokens} # at most, padding included"),
        ("num_devices", str(training.workers)),
        ("gradient_accumulation_steps", str(accumulation(config))),
        ("total_train_batch_size", str(training.batch_size)),
        ("distributed_type", "deepspeed_zero3 # ZeRO-3"),
        ("optimizer", {"rmsprop": "RMSProp", "adamw": "AdamW"}.get(training.optimizer, training.optimizer)),
        ("weight_decay", f"{training.weight_decay:g}"),
        *([("betas", "{:g}, {:g}".format(*training.betas))] if training.optimizer == "adamw" else []),
        ("lr_scheduler_type", training.schedule),
        ("lr_scheduler_warmup_ratio", f"{training.warmup_ratio:g}"),
        ("num_train_epochs", f"{training.epochs} # an iteration"),
        ("max_grad_norm", f"{training.max_grad_norm:g}"),
        ("max_length", str(policy.max_length)),
        ("max_prompt_length", str(policy.max_prompt_length)),
        ("dtype", policy.dtype),
        ("gradient_checkpointing", str(training.gradient_checkpointing).lower()),
        ("reference", training.reference),
    ]


def _evaluation(config: Config) -> list[Row]:
    evaluation = config.evaluation
    apart = evaluation.prompts.source if evaluation.prompts else f"{evaluation.held_out} set apart from training"
    rows = [("held_out", apart), ("responses", str(evaluation.responses))]
    if evaluation.judge is not None:
        rows += [("evaluation_judge", evaluation.judge.model), ("evaluation_judge_kind", evaluation.judge.kind)]
    return rows


def _resources(config: Config) -> list[Row]:
    training = config.training
    roles = [("trainers", f"{training.workers}", training.cpus, training.gpus)]
    pools = ("generators", config.generators, config.generator_gpus), ("rankers", config.rankers, config.rankers.gpus)
    roles += [(name, f"{pool.min} to {pool.max}", pool.cpus, gpus) for name, pool, gpus in pools]
    return [("placement", config.placement)] + [
        (name, f"{count} x ({cpus:g} CPU, {gpus:g} GPU)") for name, count, cpus, gpus in roles
    ]
