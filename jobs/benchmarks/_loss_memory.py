"""Memory and gradients of loss and backward, from the body's last hidden states to the gradients of states and head.

    python -m jobs.benchmarks._loss_memory plain|sliced ROWS LENGTH OUT     one real pass: peak memory over the start, gradients

`accounted` adds up the tensors of the same pass without making them, at sizes that no machine here could hold.
"""

import resource
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from sppo_ray.loss import sppo_loss
from sppo_ray.training.logprobs import LinearLogprobs, token_logprobs

VOCABULARY, CAP, ETA = 256_000, 30.0, 1000.0
HIDDEN = 256  # of a real pass: the products with the head should not take all day on a CPU


def loss(way: str, hidden: Tensor, head: nn.Linear, ids: Tensor) -> Tensor:
    """The SPPO loss of rows whose tokens, all but the first, are responses."""
    logprobs: Tensor
    if way == "plain":
        logprobs = token_logprobs(CAP * torch.tanh(head(hidden) / CAP), ids)
    else:
        states, tokens = hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        logprobs = LinearLogprobs.apply(states, head.weight, None, tokens, CAP).view(len(ids), -1)
    log_ratio = logprobs.sum(-1) + 12.0 * ids.shape[1]  # any reference: near the log-probabilities of an untrained head
    return sppo_loss(log_ratio, torch.full_like(log_ratio, 0.9), eta=ETA).sum()


def given(rows: int, length: int, width: int, dtype: torch.dtype) -> tuple[Tensor, nn.Linear, Tensor]:
    hidden = torch.randn(rows, length, width, dtype=dtype, requires_grad=True)
    head = nn.Linear(width, VOCABULARY, bias=False, dtype=dtype)
    return hidden, head, torch.randint(VOCABULARY, (rows, length))


def accounted(way: str, rows: int, length: int, width: int, dtype: torch.dtype) -> int:
    """Peak bytes of all tensors that loss and backward make, gradients included, states and head not."""
    with FakeTensorMode():
        hidden, head, ids = given(rows, length, width, dtype)
        tracker = MemTracker()
        tracker.track_external(head, hidden, ids)
        with tracker:
            start = _total(tracker, "current")
            loss(way, hidden, head, ids).backward()
        return _total(tracker, "peak") - start


def _total(tracker: MemTracker, when: str) -> int:
    return sum(int(kinds["Total"]) for kinds in tracker.get_tracker_snapshot(when).values())


def real(way: str, rows: int, length: int) -> dict[str, Any]:
    torch.manual_seed(0)
    hidden, head, ids = given(rows, length, HIDDEN, torch.float32)
    start = _resident()
    loss(way, hidden, head, ids).backward()
    return {"bytes": _resident() - start, "gradients": [hidden.grad, head.weight.grad]}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    torch.save(real(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])), sys.argv[4])
