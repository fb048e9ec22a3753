"""The adapter that vLLM samples with, exchanged in place: the engine has room for one.

In: vLLM's engine, the snapshots to load. Out: the request that an adapter goes by, or `SnapshotMismatch`.
"""

from typing import Any

import torch

from sppo_ray.errors import SnapshotMismatch
from sppo_ray.records import Snapshot
from sppo_ray.run_folder.adapters import adapter_settings, adapter_sum
from sppo_ray.sampling.worker import WorkerExtension, combined

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has room for


def room_for(rank: int) -> dict[str, Any]:
    """vLLM's arguments for adapters of a rank; none where all weights are trained."""
    if not rank:
        return {}
    room = next(most for most in RANKS if rank <= most)
    return {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": room}


class AdapterSlot:
    """request: what vLLM is to sample with, None for the base alone."""

    def __init__(self, engine: Any, snapshot: Snapshot, dtype: str) -> None:
        self._engine = engine
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._count = 0
        self.request: Any = None
        self.load(snapshot)

    def load(self, snapshot: Snapshot) -> None:
        """Put the snapshot's adapter in place of the one before; the base model has none."""
        from vllm.lora.request import LoRARequest

        if self.request is not None:
            self._engine.remove_lora(self.request.lora_int_id)
            self.request = None
        if adapter_settings(snapshot.uri) is None:
            return
        self._count += 1  # a number of its own for each load: vLLM would not read a known one again
        request = LoRARequest(f"{snapshot.name}-{self._count}", self._count, snapshot.uri)
        self._engine.add_lora(request)
        loaded = combined(self._engine.collective_rpc(WorkerExtension.adapter_sums.__name__))
        published = adapter_sum(snapshot.uri, self._dtype)
        if loaded != published:
            raise SnapshotMismatch(
                f"the loaded adapter is not that of {snapshot.name}: its checksum is {loaded}; that of {snapshot.uri} is "
                f"{published}"
            )
        self.request = request
