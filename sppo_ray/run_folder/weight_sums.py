"""Checksums of weights that do not depend on how an engine stacks, fuses, splits or pads them.

In: tensors, or a model folder. Out: the sum over all elements of the cube of their bits, as an integer modulo 2^64.
Padding with zeros adds nothing. A plain sum would miss changes that cancel; cubes of different bits hardly ever do.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open

from sppo_ray.records import Snapshot
from sppo_ray.run_folder.snapshots import read_manifest

Named = tuple[str, torch.Tensor]

MODULUS = 1 << 64
CHUNK = 1 << 22  # elements, so that what is computed on the way stays small
INTEGERS = {2: torch.int16, 4: torch.int32}


def tensor_sum(tensor: torch.Tensor) -> int:
    """The checksum of one tensor. -0.0 counts as 0.0, for some engines do not keep its sign."""
    total = 0
    for chunk in tensor.detach().flatten().split(CHUNK):
        bits = (chunk + 0.0).view(INTEGERS[chunk.element_size()])
        if chunk.element_size() == 2:  # counting the values costs a fifth of multiplying each
            counts = torch.bincount(bits.int() + (1 << 15), minlength=1 << 16)
            total += int((counts * _cubes().to(counts.device)).sum())
        else:
            wide = bits.long()
            wide ^= wide >> 16  # or the lower half of what was rounded to bfloat16 would be lost in the cube
            total += int((wide * wide * wide).sum())
    return total % MODULUS


@cache
def _cubes() -> torch.Tensor:
    return torch.arange(-(1 << 15), 1 << 15) ** 3


class WeightSum:
    """Adds up the tensors of a stream that passes through it, as rounded to dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._total = 0

    def over(self, tensors: Iterable[Named]) -> Iterator[Named]:
        for name, tensor in tensors:
            self._total += tensor_sum(tensor.to(self._dtype))
            yield name, tensor

    def hex(self) -> str:
        return as_hex([self._total])


def snapshot_sum(snapshot: Snapshot, dtype: torch.dtype) -> str:
    """The checksum of a snapshot in a local folder: from its manifest, or of its files if they were not published by a run."""
    folder = Path(snapshot.uri)
    published = read_manifest(folder, snapshot) if snapshot.digest else {}
    return str(published.get("weights") or folder_sum(folder, dtype))


def folder_sum(folder: Path, dtype: torch.dtype) -> str:
    """The checksum of a model folder's safetensors, as an engine of this dtype loads them."""
    sums: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it cannot be iterated over
                tensor = tensors.get_tensor(name)
                if tensor.is_floating_point() and not name.endswith("inv_freq"):  # engines compute those
                    sums[name] = tensor_sum(tensor.to(dtype))
    embeddings = [total for name, total in sums.items() if name.endswith("embed_tokens.weight")]
    if sums.get("lm_head.weight") in embeddings:  # tied: engines hold one
        del sums["lm_head.weight"]
    return as_hex(sums.values())


def as_hex(sums: Iterable[int]) -> str:
    return format(sum(sums) % MODULUS, "016x")
