"""The settings of the training.

In: the section `training` of a configuration. Out: a frozen `TrainingSettings`.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

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


class Anchors(Section):
    """The policies whose log-probabilities the log-ratios are taken against, by weight; the weights add up to 1."""

    current: Share = 1.0
    """The policy that the iteration starts with and samples from."""
    previous: Share = 0.0
    """The policy that the iteration before started with; in the first iteration the current one."""
    base: Share = 0.0
    """The base model, or where `training.base_every` has moved it."""

    @model_validator(mode="after")
    def _whole(self) -> "Anchors":
        total = self.current + self.previous + self.base
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"the weights of training.anchors add up to {total:g}: set all three, such as {{current: 0.75, base: 0.25}}"
            )
        return self


class TrainingSettings(Section):
    """The regression of the policy's log-ratios to the win rates."""

    loss: str = "sppo"
    """`sppo` (the paper), `sppo_single` (the release's variant), `sppo_hard` (TRL's), `ipo`, `rebel`, `dpo`, or `package.module:function`."""
    min_margin: Share = 0.0
    """Leave out pairs whose win rates differ by less; 0 keeps all, as published. Above 0 an iteration trains once all of it is judged."""
    eta: PositiveFloat = 1000.0
    """Scale of the targets: eta (win rate - 1/2), in nats."""
    anchors: Anchors = Anchors()
    base_every: Positive | None = None
    """Iterations after which the base of the anchors moves to the current policy, again and again; never if not set."""
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
    carry: Literal["master", "snapshot"] = "master"
    """What an iteration starts from: `master`, the float32 weights that the one before ended with; `snapshot`, what that published, which is rounded to `policy.dtype` (the release's way)."""
    adapter: Adapter = Adapter()
    gradient_checkpointing: Annotated[bool, FREE] = True
    """Recompute activations in the backward pass: less memory, about a third more time."""
    compile: Annotated[bool, FREE] = False
    """Compile the model's layers (torch.compile): faster steps of models such as Gemma 2, after half a minute of compiling in each process."""
    offload: Annotated[Literal["none", "optimizer", "all"], FREE] = "none"
    """What ZeRO-3 keeps in host memory: `optimizer` (float32 weights, optimizer states, gradients) or `all` (also the weights)."""
    reference: Annotated[Literal["sampled", "recompute"], FREE] = "sampled"
    """Where log pi_t comes from: recorded while sampling, or recomputed by the trainer before its first step."""
    reference_tolerance: Annotated[PositiveFloat, FREE] = 0.1
    """Mean difference between the sampler's and the trainer's log-probabilities, in nats per token, that stops the run; rounding in bfloat16 makes about 0.03."""
    checkpoint_minutes: Annotated[PositiveFloat, FREE] = 30.0
    """Minutes of training between checkpoints, from which a restarted trainer continues; the trainer waits while one is written."""
    checkpoint_steps: Annotated[Positive | None, FREE] = None
    """A checkpoint after every so many optimizer steps, too; by the minutes alone if not set."""
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

    def anchored(self, iteration: int) -> dict[int, float]:
        """The snapshots that anchor an iteration and their weights, by number (0: the base model).

        The last one, `iteration - 1`, is the current policy. Anchors that are the same snapshot are one.
        """
        current = iteration - 1
        base = current - current % self.base_every if self.base_every else 0
        found: dict[int, float] = {}
        for number, weight in ((base, self.anchors.base), (max(0, current - 1), self.anchors.previous)):
            found[number] = found.get(number, 0.0) + weight
        others = {number: weight for number, weight in sorted(found.items()) if weight and number != current}
        return others | {current: 1.0 - sum(others.values())}

    def other_anchors(self, iteration: int) -> list[int]:
        """The snapshots besides the current policy that anchor an iteration, oldest first."""
        return list(self.anchored(iteration))[:-1]

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        if ":" not in name:  # one from outside is imported by what uses it, so that a run folder can be read without it
            find_loss(name)
        return name
