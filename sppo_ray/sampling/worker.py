"""What vLLM's workers are asked for beside their own methods.

In: a call of every worker. Out: checksums of the weights that the worker computes with, or nothing.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sppo_ray.run_folder.weight_sums import MODULUS, as_hex, tensor_sum
from sppo_ray.sampling.child import end_with

if TYPE_CHECKING:
    import torch

ROWS = 1024  # of a packed weight that are read back at once


class WorkerExtension:
    """Mixed into vLLM's worker class."""

    model_runner: Any

    def remove_rendezvous(self) -> None:
        """Remove the temporary file by which the workers met; vLLM would leave one behind for every engine."""
        from torch import distributed

        store = distributed.distributed_c10d._get_default_store()
        while isinstance(store, distributed.PrefixStore):
            store = store.underlying_store
        if isinstance(store, distributed.FileStore):
            Path(store.path).unlink(missing_ok=True)  # type: ignore[attr-defined]  # its stub lacks it

    def end_with(self, owner: int) -> None:
        """End with the process that owns the engine, which no process of vLLM does by itself."""
        if owner != os.getpid():
            end_with(owner)

    def weight_sums(self) -> dict[str, int]:
        """The checksum of each parameter of this worker's part of the model."""
        import torch

        model, dtype = self.model_runner.get_model(), self.model_runner.model_config.dtype
        with torch.inference_mode():
            sums = {name: tensor_sum(p.to(dtype)) for name, p in model.named_parameters() if p.is_floating_point()}
            for name, module in model.named_modules():
                if hasattr(module, "cpu_linear") and not module.weight.numel():
                    sums[f"{name}.weight"] = sum(map(tensor_sum, _packed(module, dtype))) % MODULUS
        return sums

    def adapter_sums(self) -> dict[str, int]:
        """The checksum of each matrix of the adapter that this worker computes with; what pads them to the largest rank is 0."""
        sums: dict[str, int] = {}
        for name, module in self.model_runner.get_model().named_modules():
            for side in ("lora_a_stacked", "lora_b_stacked"):
                for i, matrix in enumerate(getattr(module, side, ())):
                    sums[f"{name}.{side}.{i}"] = tensor_sum(matrix)
        return sums


def _packed(layer: Any, dtype: "torch.dtype") -> "Iterable[torch.Tensor]":
    """The weight of a linear layer of which vLLM on a CPU keeps only a packed copy: its product with 1 reads it back exactly."""
    import torch

    width = layer.input_size_per_partition if hasattr(layer, "input_size_per_partition") else layer.input_size
    for start in range(0, width, ROWS):
        rows = torch.eye(min(ROWS, width - start), width, dtype=dtype).roll(start, dims=1)
        yield layer.cpu_linear(rows, layer.weight, None)


def combined(workers: list[dict[str, int]]) -> str:
    """One checksum of all workers' parts. What every worker holds alike is not split over them, and counts once."""
    totals = []
    for name in workers[0]:
        sums = [worker[name] for worker in workers]
        totals.append(sums[0] if len(set(sums)) == 1 else sum(sums))
    return as_hex(totals)
