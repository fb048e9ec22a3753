"""A second of all-reduces between nodes: whether their network carries the collectives of a training, and how fast.

In: ids of nodes, what one train worker takes of each. Out: gigabytes per second; `ClusterError` where they do not end.
"""

import time
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.exceptions import GetTimeoutError, RayError
from ray.util import get_node_ip_address, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sppo_ray.errors import ClusterError, one_line

NUMBERS = 1 << 23  # of float32 in an all-reduce
SECONDS = 1.0
PLACING_SECONDS = 20.0
START_SECONDS = 120.0  # for a process on each node to import PyTorch, and for all of them to find each other


class NotPlaced(ClusterError):
    """The nodes have no room for a process each: another job is at work."""


@ray.remote(max_restarts=0)
class _Peer:
    """The process of a node. NCCL between GPUs, gloo where there are none."""

    def serve(self) -> tuple[str, int]:
        """Have the others find each other here."""
        host = get_node_ip_address()
        self._store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def measure(self, address: tuple[str, int], rank: int, size: int) -> float:
        """Gigabytes per second on each link, counted as NCCL's own tests count them."""
        patience = timedelta(seconds=START_SECONDS)
        store = self._store if rank == 0 else dist.TCPStore(*address, is_master=False, timeout=patience)
        on_gpu = torch.cuda.is_available()
        dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=patience)
        numbers = torch.ones(NUMBERS, device="cuda" if on_gpu else "cpu")
        self._seconds(numbers, 1)  # connects
        once = torch.tensor([self._seconds(numbers, 1)], device=numbers.device)
        dist.all_reduce(once, dist.ReduceOp.MAX)  # so that all do as many
        times = max(1, min(1000, int(SECONDS / once.item())))
        seconds = self._seconds(numbers, times)
        dist.destroy_process_group()
        return 2 * (size - 1) / size * 4 * NUMBERS * times / seconds / 1e9

    @staticmethod
    def _seconds(numbers: torch.Tensor, times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            dist.all_reduce(numbers, dist.ReduceOp.AVG if numbers.is_cuda else dist.ReduceOp.MAX)
        if numbers.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def all_reduce(nodes: list[str], bundle: dict[str, float]) -> float:
    """Gigabytes per second between the nodes, each with a process on these resources; raises `ClusterError`."""
    selectors = [{"ray.io/node-id": node} for node in nodes]
    group = placement_group([bundle] * len(nodes), strategy="STRICT_SPREAD", bundle_label_selector=selectors)
    try:
        if not group.wait(PLACING_SECONDS):
            raise NotPlaced("another job is at work there")
        peers = [_peer(group, index, bundle) for index in range(len(nodes))]
        address = ray.get(peers[0].serve.remote(), timeout=START_SECONDS)
        rates: list[float] = ray.get(
            [peer.measure.remote(address, rank, len(nodes)) for rank, peer in enumerate(peers)], timeout=START_SECONDS
        )
        return min(rates)
    except GetTimeoutError:
        raise ClusterError(f"did not end in {START_SECONDS:.0f} s") from None
    except RayError as error:
        raise ClusterError(f"failed: {one_line(getattr(error, 'cause', None) or error)}") from error
    finally:
        remove_placement_group(group)  # ends the processes on it


def _peer(group: Any, index: int, bundle: dict[str, float]) -> Any:
    where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    return _Peer.options(num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0), scheduling_strategy=where).remote()
