"""Training the policy on pairs: log-probabilities from hidden states, batches under a token budget, ZeRO-3 steps.

In: `Pair`s. Out: updated weights, tensor by tensor, and the numbers of each step. `policy` is the only module that
touches DeepSpeed; nothing is imported here, because most of these modules load torch.
"""

__all__ = [
    "adapter",
    "batching",
    "logprobs",
    "memory",
    "optimizer",
    "policy",
    "portions",
    "reference_guard",
    "schedule",
]
