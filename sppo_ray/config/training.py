"""The settings of the training.

In: the section `training` of a configuration. Out: a frozen `TrainingSettings`.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sppo_ray.config.values import (
    FREE,
    Labels,
    NotNegative,
    NotNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    Share,
)
from sppo_ray.loss import find_loss

Beta = Annotated[float, Field(ge=0, lt=1)]


class Adapter(Section):
    """A low-rank adapter (LoRA) that is trained in place of all weights."""

    rank: NotNegative = 0
    """Rank of the adapter; 0 trains all weights."""
    alpha: PositiveFloat = 32.0
    """Scale of the adapter: its update counts alpha / rank times."""
    dropout: Share = 0.0
    """Share of the adapter's inputs that are dropped in training."""
    targets: Literal["all-linear"] | list[str] = "all-linear"
    """Names of the linear maps that get an adapter, such as q_proj; `all-linear` for all but the output matrix."""


class TrainingSettings(Section):
    """The regression of the policy's log-ratios to the win rates."""

    loss: str = "sppo"
    """`sppo` (the paper), `sppo_single` (the release's variant), `sppo_hard` (TRL's), `ipo`, `rebel`, `dpo`, or `package.module:function`."""
    min_margin: Share = 0.0
    """Leave out pairs whose win rates differ by less; 0 keeps all, as published. Above 0 an iteration trains once all of it is judged."""
    eta: PositiveFloat = 1000.0
    """Scale of the targets: eta (win rate - 1/2), in nats."""
    optimizer: str = "rmsprop"
    """`rmsprop` (the release's), `adamw`, or `package.module:name` of an `OptimizerKind`."""
    betas: Annotated[list[Beta], Field(min_length=2, max_length=2)] = [0.9, 0.999]
    """adamw: decay of the running means of the gradient and of its square, per step."""
    weight_decay: NotNegativeFloat = 0.0
    """adamw: decoupled from the gradient; rmsprop: added to it, as torch does."""
    learning_rate: PositiveFloat = 5e-7
    """Peak learning rate of each iteration."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate goes on after the warm-up: to 0 along a line or half a cosine, or it stays."""
    warmup_ratio: Share = 0.1
    """Share of an iteration's steps in which the learning rate rises linearly from 0."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradient norm above which gradients are scaled down."""
    batch_size: Positive = 64
    """Pairs per optimizer step, over all workers."""
    micro_batch_size: Annotated[Positive, FREE] = 8
    """Most pairs per forward pass on one worker."""
    micro_batch_tokens: Annotated[Positive, FREE] = 8192
    """Most tokens per forward pass on one worker, padding included."""
    epochs: Positive = 1
    """Passes over the pairs of an iteration."""
    adapter: Adapter = Adapter()
    gradient_checkpointing: Annotated[bool, FREE] = True
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload: Annotated[Literal["none", "optimizer", "all"], FREE] = "none"
    """What ZeRO-3 keeps in host memory: `optimizer` (float32 weights, optimizer states, gradients) or `all` (also the weights)."""
    reference: Annotated[Literal["sampled", "recompute"], FREE] = "sampled"
    """Where log pi_t comes from: recorded while sampling, or recomputed by the trainer before its first step."""
    reference_tolerance: Annotated[PositiveFloat, FREE] = 0.1
    """Mean difference between the sampler's and the trainer's log-probabilities, in nats per token, that stops the run; rounding in bfloat16 makes about 0.03."""
    checkpoint_steps: Annotated[Positive, FREE] = 50
    """Optimizer steps between checkpoints, from which a restarted trainer continues."""
    max_failures: Annotated[NotNegative, FREE] = 3
    """Trainer restarts per iteration before the run fails."""
    workers: Annotated[Positive, FREE] = 1
    """Train workers, over which ZeRO-3 shards the policy; with placement=auto the plan's choice if not set."""
    cpus: Annotated[NotNegativeFloat, FREE] = 1.0
    """CPUs per worker."""
    gpus: Annotated[NotNegativeFloat, FREE] = 1.0
    """GPUs per worker; a fraction shares a GPU with an engine."""
    labels: Annotated[Labels, FREE] = {}
    """Labels of the nodes that workers may run on, as Ray's label selectors write them."""

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if ":" not in name:  # one from outside is imported by what uses it, so that a run folder can be read without it
            find_loss(name)
        return name
