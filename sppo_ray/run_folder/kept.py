"""How much of an iteration's update its snapshot keeps: published weights are rounded, the trainer's float32 weights are not.

The update u is those float32 weights minus the snapshot before, what is kept of it, p, the snapshot minus the one before.
In: the float32 weights on their way to a snapshot, and the model that they were trained from. Out: a `KeptShare`.
"""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers.utils import cached_file

from sppo_ray.records import KeptShare

CHUNK = 1 << 22  # elements, so that what is computed on the way stays small
Named = tuple[str, Tensor]


class UpdateKept:
    """Measures a stream of tensors that passes through it. Of the model before, one tensor at a time is in memory."""

    def __init__(self, before: str, held: torch.dtype, published: torch.dtype) -> None:
        """before: model folder, adapter folder or hub name that the weights were trained from.  held: dtype that it was trained in."""
        self._files = _tensor_files(before)
        self._held, self._published = held, published
        self._sums = [0.0, 0.0, 0.0]  # <u, u>, <p, u>, <p, p>
        self._known = True

    def over(self, tensors: Iterable[Named]) -> Iterator[Named]:
        for name, tensor in tensors:
            if name in self._files:
                with safe_open(self._files[name], "pt") as file:  # its pages are given back after each tensor
                    self._add(file.get_tensor(name), tensor)
            else:
                self._known = False
            yield name, tensor

    def _add(self, before: Tensor, after: Tensor) -> None:
        for old, new in zip(before.flatten().split(CHUNK), after.flatten().split(CHUNK), strict=True):
            start = old.to(self._held).float()
            update, kept = new - start, new.to(self._published).float() - start
            products = (update @ update, update @ kept, kept @ kept)
            self._sums = [total + float(product) for total, product in zip(self._sums, products, strict=True)]

    def share(self) -> KeptShare | None:
        """None where the model before has not all the tensors: a new adapter, or a base whose files name them otherwise."""
        update, both, kept = self._sums
        if not self._known or not update:
            return None
        return KeptShare(both / update, both / math.sqrt(update * kept) if kept else 0.0)


def _tensor_files(model: str) -> dict[str, Path]:
    """The file of each tensor of a model folder, an adapter folder or a hub name."""
    folder = Path(model) if Path(model).is_dir() else Path(str(cached_file(model, "config.json"))).parent
    found: dict[str, Path] = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found |= dict.fromkeys(file.keys(), path)
    return found
