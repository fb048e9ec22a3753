"""DeBERTa's disentangled attention (arXiv 2006.03654): scores that depend on the distance from query to key.

In: a layer's `DisentangledSelfAttention` of Transformers, hidden states. Out: the context of each query.
On a GPU the position terms are looked up inside one kernel (`flex_attention`), on a CPU a compiled loop writes them (`bias`).
"""

from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
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
    def from_farthest(self) -> Any:
        """The buckets of the distances width - 1 down to 1 - width, for a compiled loop."""
        return self.buckets.flip(0).numpy().astype("uint64")

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
    q = _split_heads(attention.query_proj(queries), heads)
    k = _split_heads(attention.key_proj(hidden), heads)
    v = _split_heads(attention.value_proj(hidden), heads)
    if places is not None:
        context = _attend_from(places, q, k, v, positions, distances, penalty)
    elif q.device.type == "cpu" and q.dtype == torch.float32:
        context = _attend_on_cpu(q, k, v, positions, distances, penalty)
    else:
        context = attend_fused(q, k, v, positions, distances, penalty)
    return context.transpose(1, 2).flatten(2)


def _position_terms(q: Tensor, k: Tensor, positions: Positions, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """For each bucket: of queries (rows, heads, n, 2 * span), and of keys (rows, heads, 2 * span, width) with the mask."""
    position_key, position_query = positions
    from_key = position_query @ k.transpose(-1, -2)
    from_key += penalty
    return q @ position_key, from_key


def _attend_from(
    places: Tensor, q: Tensor, k: Tensor, v: Tensor, positions: Positions, distances: Distances, penalty: Tensor
) -> Tensor:
    from_query, from_key = _position_terms(q, k, positions, penalty)
    away = places[..., None] - torch.arange(k.shape[2], device=places.device)
    buckets = distances.from_zero[away][:, None].expand(-1, q.shape[1], -1, -1)
    bias = from_query.gather(-1, buckets) + from_key.gather(-2, buckets)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=_scale(q.shape[-1]))


def _attend_on_cpu(
    q: Tensor, k: Tensor, v: Tensor, positions: Positions, distances: Distances, penalty: Tensor
) -> Tensor:
    """In chunks of CHUNK scores: the more queries at once the fuller the kernel's blocks, then heads, then rows."""
    from sppo_ray.judging.pairrm.bias import fill

    rows, heads, width, size = q.shape
    queries = max(1, min(width, CHUNK // width))
    some_heads = max(1, min(heads, CHUNK // (width * queries)))
    some_rows = max(1, CHUNK // (width * queries * heads))
    # Allocating it for every chunk would cost more than filling it.
    memory = q.new_empty(some_rows * some_heads * queries * width)
    context = torch.empty_like(q)
    for row, head in product(range(0, rows, some_rows), range(0, heads, some_heads)):
        each, of_heads = slice(row, row + some_rows), slice(head, head + some_heads)
        left, right, values = (tensor[each, of_heads] for tensor in (q, k, v))
        own = positions[0][of_heads], positions[1][of_heads]
        from_query, from_key = _position_terms(left, right, own, penalty[each])
        for start in range(0, width, queries):
            part = slice(start, start + queries)
            some = left[:, :, part]
            bias = memory[: some[..., 0].numel() * width].view(*some.shape[:-1], width)
            arrays = (tensor.numpy() for tensor in (bias, from_query[:, :, part], from_key))
            fill(*arrays, start, distances.from_farthest)
            context[each, of_heads, part] = scaled_dot_product_attention(
                some, right, values, attn_mask=bias, scale=_scale(size)
            )
    return context


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, positions: Positions, distances: Distances, penalty: Tensor
) -> Tensor:
    """All in one kernel, scores and their sums in float32. q, k, v: (rows, heads, width, size)."""
    from_query, from_key = _position_terms(q, k, positions, penalty)
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
