"""DeBERTa's disentangled attention (arXiv 2006.03654): no gather where all distances share one relative position,
and none at all on a CPU (`bias`).

In: a layer's `DisentangledSelfAttention` of Transformers, hidden states. Out: the context of each query.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

# Attention scores computed at once: on a CPU they should stay in its cache.
CHUNK = {"cpu": 1 << 20, "cuda": 1 << 28}

Positions = tuple[Tensor, Tensor]  # p_key (heads, size, 2 * span) and p_query (heads, 2 * span, size)


@dataclass(frozen=True)
class Distances:
    """The bucket, one of 2 * span relative positions, of each distance from query to key in rows of one width."""

    buckets: Tensor  # (2 * width - 1,), non-decreasing, for the distances 1 - width to width - 1
    first: int  # bucket of all distances below `low`
    last: int  # bucket of all distances above `high`
    low: int
    high: int

    @cached_property
    def runs(self) -> tuple[Any, Any]:
        # Imported where a CPU needs it: numba is not part of a GPU's installation.
        from sppo_ray.judging.pairrm.bias import runs

        return runs(self.buckets.numpy())

    def near(self, places: Tensor, width: int) -> tuple[slice, Tensor, Tensor]:
        """The keys near enough to some query at `places`, (..., n), to need a gather; all keys where rows differ.

        Also, both (..., n, keys): the bucket b of each, and its index b * width + j in a table of buckets and keys.
        """
        keys = slice(0, width)
        if places.dim() == 1:
            first, last = int(places[0]), int(places[-1])
            keys = slice(max(0, first - self.high), min(width, last + 1 - self.low))
        columns = torch.arange(keys.start, keys.stop, device=places.device)
        buckets = self.buckets[places[..., None] - columns + width - 1]
        return keys, buckets, buckets * width + columns


def distances_of(attention: Any, width: int, device: torch.device) -> Distances:
    """The relative positions in rows of this width."""
    line = torch.arange(1 - width, width)
    if attention.position_buckets > 0:
        line = make_log_bucket_position(line, attention.position_buckets, attention.max_relative_positions)
    span = attention.pos_ebd_size
    line = (line.long() + span).clamp(0, 2 * span - 1)
    first, last = int(line[0]), int(line[-1])
    low, high = int((line == first).sum()) + 1 - width, width - 1 - int((line == last).sum())
    return Distances(line.to(device), first, last, low, high)


def attend(
    attention: Any,
    positions: Positions,
    queries: Tensor,
    hidden: Tensor,
    places: Tensor,
    distances: Distances,
    penalty: Tensor,
) -> Tensor:
    """Disentangled attention (arXiv 2006.03654, eq. 4): (q k + q p_key + k p_query) / scale, softmax, times v.

    queries: (rows, n, hidden).  places: their positions, (n,) consecutive ones, or (rows, n) where rows differ.
    penalty: (rows, 1, 1, width).
    """
    heads = attention.num_attention_heads
    position_key, position_query = positions
    q = _split_heads(attention.query_proj(queries), heads)
    k = _split_heads(attention.key_proj(hidden), heads)
    v = _split_heads(attention.value_proj(hidden), heads)
    (rows, _, n, size), width = q.shape, k.shape[2]
    from_query = q @ position_key  # (rows, heads, n, 2 * span)
    from_key = position_query @ k.transpose(-1, -2)  # (rows, heads, 2 * span, width)
    from_key += penalty  # the mask, as part of the bias
    # One head of a row at a time: the more queries per chunk, the fuller the kernel's blocks.
    q, k, v, from_query, from_key = (each.flatten(0, 1).unsqueeze(1) for each in (q, k, v, from_query, from_key))
    context = torch.empty_like(q)
    block = max(1, min(n, CHUNK[q.device.type] // width))
    step = max(1, CHUNK[q.device.type] // (width * block))
    memory = q.new_empty(step, 1, block, width)  # allocating it for every chunk would cost more than filling it
    compiled = q.device.type == "cpu" and places.dim() == 1
    if compiled:
        from sppo_ray.judging.pairrm.bias import fill
    for start in range(0, n, block):
        part = slice(start, start + block)
        if not compiled:
            near, *indices = distances.near(places[..., part], width)
            if places.dim() == 2:
                indices = [index.repeat_interleave(heads, dim=0).unsqueeze(1) for index in indices]
        for first in range(0, rows * heads, step):
            some = slice(first, first + step)
            left = q[some, :, part]
            bias = memory[: left.shape[0], :, : left.shape[2]]
            if compiled:
                arrays = (tensor.numpy() for tensor in (bias, from_query[some, :, part], from_key[some]))
                fill(*arrays, start, *distances.runs)
            else:
                here = [index[some] if places.dim() == 2 else index for index in indices]
                gather_bias(bias, from_query[some, :, part], from_key[some], distances, near, *here)
            context[some, :, part] = scaled_dot_product_attention(
                left, k[some], v[some], attn_mask=bias, scale=_scale(size)
            )
    return context.view(rows, heads, n, size).transpose(1, 2).flatten(2)


def gather_bias(
    bias: Tensor,
    from_query: Tensor,
    from_key: Tensor,
    distances: Distances,
    near: slice,
    buckets: Tensor,
    key_places: Tensor,
) -> None:
    """bias[..., i, j] = from_query[..., i, b] + from_key[..., b, j], where b is the bucket of the distance from i to j.

    near, buckets, key_places: from `Distances.near`; all other keys are in the first or last bucket and need no gather.
    """
    width = bias.shape[-1]
    for far, bucket in ((slice(0, near.start), distances.last), (slice(near.stop, width), distances.first)):
        torch.add(from_query[..., bucket, None], from_key[..., bucket, None, far], out=bias[..., far])
    shape = (*bias.shape[:-1], buckets.shape[-1])
    keys = from_key.flatten(2).gather(-1, key_places.expand(shape).flatten(2)).view(shape)
    torch.add(from_query.gather(-1, buckets.expand(shape)), keys, out=bias[..., near])


def _split_heads(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()


def _scale(head_size: int) -> float:
    return float((3 * head_size) ** -0.5)  # three terms are summed


@torch.inference_mode()
def position_projections(attention: Any, encoder: Any) -> Positions:
    """Scaled projections of the relative positions in one layer; they are the same for every text."""
    embeddings = encoder.get_rel_embedding()[: 2 * attention.pos_ebd_size]
    shared = attention.share_att_key
    key = (attention.key_proj if shared else attention.pos_key_proj)(embeddings)
    query = (attention.query_proj if shared else attention.pos_query_proj)(embeddings)
    key, query = (_split_heads(states[None], attention.num_attention_heads)[0] for states in (key, query))
    scale = _scale(key.shape[-1])
    return (key * scale).transpose(-1, -2), query * scale
