"""The optimizers, by name; one from outside the package is `package.module:name`.

In: parameters and the peak learning rate. Out: a torch optimizer. Planning and cards ask for its state and its description;
torch is loaded only to build one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sppo_ray.loading import load_named


@dataclass(frozen=True)
class OptimizerKind:
    """build: from parameters and learning rate to a torch optimizer.  states: float32 numbers that it keeps per weight."""

    build: Callable[[Iterable[Any], float], Any]
    states: int
    description: str


def _rmsprop(parameters: Iterable[Any], learning_rate: float) -> Any:
    from torch.optim import RMSprop

    return RMSprop(parameters, lr=learning_rate, alpha=0.99, eps=1e-8)


def _adamw(parameters: Iterable[Any], learning_rate: float) -> Any:
    from torch.optim import AdamW

    return AdamW(parameters, lr=learning_rate, weight_decay=0.0)


OPTIMIZERS = {
    # The release's: torch's defaults, no momentum, no weight decay, no bias correction.
    "rmsprop": OptimizerKind(_rmsprop, 1, "RMSProp (alpha 0.99, eps 1e-08)"),
    "adamw": OptimizerKind(_adamw, 2, "AdamW (betas 0.9, 0.999, eps 1e-08, no weight decay)"),
}


def find_optimizer(name: str) -> OptimizerKind:
    """The optimizer of that name, or the `OptimizerKind` that `package.module:name` stands for."""
    kind: OptimizerKind = load_named(name, OPTIMIZERS, "training.optimizer", OptimizerKind)
    return kind
