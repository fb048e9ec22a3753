"""DeBERTa's disentangled attention (arXiv 2006.03654): scores that depend on the distance from query to key.

In: a layer's `DisentangledSelfAttention` of Transformers, hidden states. Out: the context of each query.
On a GPU the position terms are looked up inside one kernel (`flex_attention`), on a CPU a compiled loop writes them (`bias`).
"""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

CHUNK = 1 << 20  # attention scores computed at once on a CPU: they should stay in its cache

Positions = tuple[Tensor, Tensor]  # p_key (heads, size, 2 * span) and p_query (heads, 2 * span, size)


@dataclass(frozen=True)
class Distances:
    """The bucket, one of 2 * span relative positions, of each distance from query to key in rows of one width."""

    buckets: Tensor  # (2 * width - 1,), non-decreasing, for the distances 1 - width to width - 1

    @cached_property
    def runs(self) -> tuple[Any, Any]:
        # Imported where a CPU needs it: numba is not part of a GPU's installation.
        from sppo_ray.judging.pairrm.bias import runs

        return runs(self.buckets.numpy())

    @cached_property
    def from_zero(self) -> Tensor:
        """The buckets of the distances 0 to width - 1, then 1 - width to -1: a distance is its own index."""
        return self.buckets.roll(-(len(self.buckets) // 2))


def distances_of(attention: Any, width: int, device: torch.device) -> Distances:
    """The relative positions in rows of this width."""
    line = torch.arange(1 - width, width)
    if attention.position_buckets > 0:
        line = make_log_bucket_position(line, attention.position_buckets, attention.max_relative_positions)
    span = attention.pos_ebd_size
    return Distances((line.long() + span).clamp(0, 2 * span - 1).to(device))


def attend(
    attention: Any,
    positions: Positions,
    queries: Tensor,
    hidden: Tensor,
    places: Tensor | None,
    distances: Distances,
    penalty: Tensor,
) -> Tensor:
    """Disentangled attention (arXiv 2006.03654, eq. 4): (q k + q p_key + k p_query) / scale, softmax, times v.

    queries: (rows, n, hidden).  places: (rows, n), where the few that are read stand; None where all positions are.
    penalty: (rows, 1, 1, width).
    """
    heads = attention.num_attention_heads
    position_key, position_query = positions
    q = _split_heads(attention.query_proj(queries), heads)
    k = _split_heads(attention.key_proj(hidden), heads)
    v = _split_heads(attention.value_proj(hidden), heads)
    from_query = q @ position_key  # (rows, heads, n, 2 * span)
    from_key = position_query @ k.transpose(-1, -2)  # (rows, heads, 2 * span, width)
    from_key += penalty  # the mask, as part of the bias
    if places is not None:
        context = _attend_from(places, q, k, v, from_query, from_key, distances)
    elif q.device.type == "cpu" and q.dtype == torch.float32:
        context = _attend_on_cpu(q, k, v, from_query, from_key, distances)
    else:
        context = attend_fused(q, k, v, from_query, from_key, distances)
    return context.transpose(1, 2).flatten(2)


def _attend_from(
    places: Tensor, q: Tensor, k: Tensor, v: Tensor, from_query: Tensor, from_key: Tensor, distances: Distances
) -> Tensor:
    away = places[..., None] - torch.arange(k.shape[2], device=places.device)
    buckets = distances.from_zero[away][:, None].expand(-1, q.shape[1], -1, -1)
    bias = from_query.gather(-1, buckets) + from_key.gather(-2, buckets)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=_scale(q.shape[-1]))


def _attend_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, from_query: Tensor, from_key: Tensor, distances: Distances
) -> Tensor:
    from sppo_ray.judging.pairrm.bias import fill

    rows, heads, width, size = q.shape
    # One head of a row at a time: the more queries per chunk, the fuller the kernel's blocks.
    q, k, v, from_query, from_key = (each.flatten(0, 1).unsqueeze(1) for each in (q, k, v, from_query, from_key))
    context = torch.empty_like(q)
    block = max(1, min(width, CHUNK // width))
    step = max(1, CHUNK // (width * block))
    memory = q.new_empty(step, 1, block, width)  # allocating it for every chunk would cost more than filling it
    for start in range(0, width, block):
        part = slice(start, start + block)
        for first in range(0, rows * heads, step):
            some = slice(first, first + step)
            left = q[some, :, part]
            bias = memory[: left.shape[0], :, : left.shape[2]]
            arrays = (tensor.numpy() for tensor in (bias, from_query[some, :, part], from_key[some]))
            fill(*arrays, start, *distances.runs)
            context[some, :, part] = scaled_dot_product_attention(
                left, k[some], v[some], attn_mask=bias, scale=_scale(size)
            )
    return context.view(rows, heads, width, size)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, from_query: Tensor, from_key: Tensor, distances: Distances) -> Tensor:
    """All in one kernel, scores and their sums in float32. q, k, v: (rows, heads, width, size)."""
    buckets = distances.from_zero

    def with_positions(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        bucket = buckets[query - key]
        return score + from_query[row, head, query, bucket] + from_key[row, head, bucket, key]

    context: Tensor = _flex_attention()(q, k, v, score_mod=with_positions, scale=_scale(q.shape[-1]))
    return context


@cache
def _flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


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
