"""Whether an engine computes with the weights of the snapshot that it was told to load.

In: a way to call the engine's workers, the snapshots it loads. Out: nothing, or `SnapshotMismatch`.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch

from sppo_ray.errors import SnapshotMismatch
from sppo_ray.records import Snapshot
from sppo_ray.run_folder.weight_sums import snapshot_sum
from sppo_ray.sampling.worker import WorkerExtension, combined

log = logging.getLogger(__name__)


class LoadedWeights:
    """Compares checksums of the workers' weights with those of the snapshot.

    call: of every worker, by the name of its method. Where vLLM transforms the weights of a model as it loads them, the
    two differ already for the snapshot that it started with; then a load is only checked for having changed the weights.
    """

    def __init__(self, call: Callable[[str], list[Any]], snapshot: Snapshot, dtype: str) -> None:
        self._call = call
        self._dtype: torch.dtype = getattr(torch, dtype)
        self._loaded, self._published = self._sums(snapshot)
        self.exact = self._loaded == self._published
        if not self.exact:
            log.warning(
                "vLLM holds the weights of %s in another form than its files: stale weights are only noticed where a "
                "load changes nothing", snapshot.uri,
            )  # fmt: skip

    def check(self, snapshot: Snapshot) -> None:
        """Raise `SnapshotMismatch` if the workers do not hold the weights of the snapshot, which they have just loaded."""
        loaded, published = self._sums(snapshot)
        stale = loaded == self._loaded and published != self._published
        if stale or (self.exact and loaded != published):
            raise SnapshotMismatch(
                f"the loaded weights are not those of {snapshot.name}: their checksum is {loaded}, "
                f"{'as before the load' if stale else 'unlike before the load'}; that of {snapshot.uri} is {published}"
            )
        self._loaded, self._published = loaded, published

    def _sums(self, snapshot: Snapshot) -> tuple[str, str]:
        return combined(self._call(WorkerExtension.weight_sums.__name__)), snapshot_sum(snapshot, self._dtype)
