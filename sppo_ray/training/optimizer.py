"""The optimizers, by name; one from outside the package is `package.module:name`.

In: parameters and the training settings. Out: a torch optimizer. Planning and cards ask for its state and its description;
torch is loaded only to build one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sppo_ray.config import TrainingSettings
from sppo_ray.loading import load_named


@dataclass(frozen=True)
class OptimizerKind:
    """build: from parameters and settings to a torch optimizer.  states: float32 numbers that it keeps per weight.

    description: for the model card; its braces take the training settings, as in `{weight_decay}`.
    """

    build: Callable[[Iterable[Any], TrainingSettings], Any]
    states: int
    description: str


def _rmsprop(parameters: Iterable[Any], training: TrainingSettings) -> Any:
    from torch.optim import RMSprop

    return RMSprop(parameters, lr=training.learning_rate, alpha=0.99, eps=1e-8, weight_decay=training.weight_decay)


def _adamw(parameters: Iterable[Any], training: TrainingSettings) -> Any:
    from torch.optim import AdamW

    first, second = training.betas
    return AdamW(parameters, lr=training.learning_rate, betas=(first, second), weight_decay=training.weight_decay)


OPTIMIZERS = {
    # The release's: torch's defaults, no momentum, no bias correction.
    "rmsprop": OptimizerKind(_rmsprop, 1, "RMSProp (alpha 0.99, eps 1e-08, weight decay {weight_decay:g})"),
    "adamw": OptimizerKind(
        _adamw, 2, "AdamW (betas {betas[0]:g}, {betas[1]:g}, eps 1e-08, weight decay {weight_decay:g})"
    ),
}


def find_optimizer(name: str) -> OptimizerKind:
    """The optimizer of that name, or the `OptimizerKind` that `package.module:name` stands for."""
    kind: OptimizerKind = load_named(name, OPTIMIZERS, "training.optimizer", OptimizerKind)
    return kind


def describe(training: TrainingSettings) -> str:
    """The optimizer and its settings, for people."""
    return find_optimizer(training.optimizer).description.format(**vars(training))
