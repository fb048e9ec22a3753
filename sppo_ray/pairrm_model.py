"""PairRM's network, built from llm-blender's own classes, with a forward pass that computes only what a score needs.

In: a checkpoint's `Settings`, then rows of token ids with the places of their prefix tokens.
Out: left score - right score of each row.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers.utils.hub
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

from sppo_ray.errors import ModelError
from sppo_ray.pairrm_checkpoint import Settings

# Entries of the attention scores that exist at once: on a CPU they should stay in its cache.
CHUNK = {"cpu": 1 << 20, "cuda": 1 << 28}

Positions = tuple[Tensor, Tensor]  # p_key (heads, size, 2 * span) and p_query (heads, 2 * span, size)


class PairRMModel:
    """Tokenizer and network of one checkpoint on one device."""

    def __init__(self, settings: Settings, device: str, dtype: torch.dtype):
        with _transformers_4():
            ranker = importlib.import_module("llm_blender.pair_ranker.ranker")
            collator = importlib.import_module("llm_blender.pair_ranker.collator")
            ranker_config = importlib.import_module("llm_blender.pair_ranker.config").RankerConfig()
        for key, value in settings.raw.items():
            setattr(ranker_config, key, value)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(settings.base)
            config = AutoConfig.from_pretrained(settings.base)
        except (OSError, ValueError) as error:
            raise ModelError(f"{settings.weights.parent}: its base {settings.base} cannot be read: {error}") from error
        if not config.relative_attention or {"c2p", "p2c"} - set(config.pos_att_type or []):
            raise ModelError(
                f"{settings.base}: relative_attention with c2p and p2c is needed: give PairRM's DeBERTa-v3"
            )
        # The collator's constructor adds the prefix tokens to the tokenizer, in the order of the trained embeddings.
        collator.CrossCompareCollator(settings.source_max_length, self.tokenizer, settings.candidate_max_length)
        # The checkpoint holds every weight, so the base model's own are neither needed nor read.
        encoder: Any = AutoModel.from_config(config, dtype=torch.float32)
        encoder.resize_token_embeddings(len(self.tokenizer), mean_resizing=False)
        encoder.config.out_hidden_state_size = encoder.config.hidden_size
        self._ranker = ranker.CrossCompareReranker(encoder, ranker_config, self.tokenizer)
        _load_weights(self._ranker, settings)
        self._ranker.eval().to(device, dtype)
        self._device = torch.device(device)
        self._embeddings: Any = encoder.embeddings
        self._encoder: Any = encoder.encoder
        self._positions = [_position_projections(layer.attention.self, self._encoder) for layer in self._encoder.layer]

    def to(self, device: str) -> None:
        """Move the network to a device and leave no memory behind on the one before."""
        if torch.device(device) == self._device:
            return
        self._ranker.to(device)
        self._positions = [(key.to(device), query.to(device)) for key, query in self._positions]
        self._device = torch.device(device)
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def margins(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """(rows,) logits that the left candidate beats the right one.

        ids: (rows, width).  lengths: (rows,).  places: (rows, 3), where source, left and right prefix tokens stand.
        """
        ids, lengths, places = (tensor.to(self._device) for tensor in (ids, lengths, places))
        source, left, right = self._encode(ids, lengths, places).unbind(1)
        left_scores, right_scores, _ = self._ranker.reduce(source, left, right)
        return (left_scores - right_scores).mean(dim=-1).float().cpu()

    def _encode(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """(rows, 3, hidden): the last hidden states at `places`, the only ones that the last layer computes."""
        width = ids.shape[1]
        mask = torch.arange(width, device=ids.device) < lengths[:, None]
        distances = self._distances(width)
        everywhere = torch.arange(width, device=ids.device)
        hidden = self._embeddings(input_ids=ids, mask=mask)
        penalty = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill_(~mask, float("-inf"))[:, None, None, :]
        *layers, last = zip(self._encoder.layer, self._positions, strict=True)
        for number, (layer, positions) in enumerate(layers):
            context = _attend(layer.attention.self, positions, hidden, hidden, everywhere, distances, penalty)
            output = _feed_forward(layer, context, hidden)
            if number == 0 and self._encoder.conv is not None:
                output = self._encoder.conv(hidden, output, mask.long())
            hidden = output
        layer, positions = last
        queries = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        context = _attend(layer.attention.self, positions, queries, hidden, places, distances, penalty)
        return _feed_forward(layer, context, queries)

    def _distances(self, width: int) -> "_Distances":
        attention = self._encoder.layer[0].attention.self
        line = torch.arange(1 - width, width)
        if attention.position_buckets > 0:
            line = make_log_bucket_position(line, attention.position_buckets, attention.max_relative_positions)
        span = attention.pos_ebd_size
        line = (line.long() + span).clamp(0, 2 * span - 1)
        first, last = int(line[0]), int(line[-1])
        low, high = int((line == first).sum()) + 1 - width, width - 1 - int((line == last).sum())
        return _Distances(line.to(self._device), first, last, low, high)


@dataclass(frozen=True)
class _Distances:
    """Which of the 2 * span relative positions, or buckets, each distance from query to key has in rows of one width."""

    buckets: Tensor  # (2 * width - 1,), never falling: of the distances 1 - width to width - 1
    first: int  # bucket of all distances below `low`
    last: int  # bucket of all distances above `high`
    low: int
    high: int

    def near(self, places: Tensor, width: int) -> tuple[slice, Tensor]:
        """The keys that are not too far from all queries at `places`, (..., n), and the bucket of each, (..., n, keys).

        Where rows differ, all keys.
        """
        keys = slice(0, width)
        if places.dim() == 1:
            first, last = int(places[0]), int(places[-1])
            keys = slice(max(0, first - self.high), min(width, last + 1 - self.low))
        columns = torch.arange(keys.start, keys.stop, device=places.device)
        return keys, self.buckets[places[..., None] - columns + width - 1]


def _attend(
    attention: Any,
    positions: Positions,
    queries: Tensor,
    hidden: Tensor,
    places: Tensor,
    distances: _Distances,
    penalty: Tensor,
) -> Tensor:
    """Disentangled attention (arXiv 2006.03654, eq. 4): (q k + q p_key + k p_query) / scale, softmax, times v.

    queries: (rows, n, hidden).  places: where they stand, (n,) one after the other, or (rows, n) where rows differ.
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
    from_key += penalty  # the bias carries the mask along
    context = torch.empty_like(q)
    block = max(1, min(n, CHUNK[q.device.type] // (heads * width)))
    step = max(1, CHUNK[q.device.type] // (heads * width * block))
    memory = q.new_empty(step, heads, block, width)  # new memory for every chunk would cost more than filling it
    for start in range(0, n, block):
        part = slice(start, start + block)
        near, buckets = distances.near(places[..., part], width)
        for row in range(0, rows, step):
            some = slice(row, row + step)
            left = q[some, :, part]
            bias = memory[: left.shape[0], :, : left.shape[2]]
            here = buckets[some, None] if places.dim() == 2 else buckets
            _fill(bias, from_query[some, :, part], from_key[some], near, here, distances)
            context[some, :, part] = scaled_dot_product_attention(
                left, k[some], v[some], attn_mask=bias, scale=_scale(size)
            )
    return context.transpose(1, 2).flatten(2)


def _fill(
    bias: Tensor, from_query: Tensor, from_key: Tensor, near: slice, buckets: Tensor, distances: _Distances
) -> None:
    """bias[..., i, j] = from_query[..., i, b] + from_key[..., b, j], where b is the bucket of the distance from i to j.

    buckets: of the keys in `near`; the others have the first or the last one, which spares the gather.
    """
    width = bias.shape[-1]
    for far, bucket in ((slice(0, near.start), distances.last), (slice(near.stop, width), distances.first)):
        torch.add(from_query[..., bucket, None], from_key[..., bucket, None, far], out=bias[..., far])
    index = buckets.expand(*bias.shape[:-1], -1)
    key_index = (buckets * width + torch.arange(near.start, near.stop, device=bias.device)).expand(index.shape)
    keys = from_key.flatten(2).gather(-1, key_index.flatten(2)).view(index.shape)
    torch.add(from_query.gather(-1, index), keys, out=bias[..., near])


def _split_heads(states: Tensor, heads: int) -> Tensor:
    return states.unflatten(-1, (heads, -1)).transpose(1, 2).contiguous()


def _feed_forward(layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
    attended = layer.attention.output(context, hidden)
    return layer.output(layer.intermediate(attended), attended)


def _scale(head_size: int) -> float:
    return float((3 * head_size) ** -0.5)  # three terms are summed


@torch.inference_mode()
def _position_projections(attention: Any, encoder: Any) -> Positions:
    """What the relative positions contribute to a layer, the same for every text, scaled."""
    embeddings = encoder.get_rel_embedding()[: 2 * attention.pos_ebd_size]
    shared = attention.share_att_key
    key = (attention.key_proj if shared else attention.pos_key_proj)(embeddings)
    query = (attention.query_proj if shared else attention.pos_query_proj)(embeddings)
    key, query = (_split_heads(states[None], attention.num_attention_heads)[0] for states in (key, query))
    scale = _scale(key.shape[-1])
    return (key * scale).transpose(-1, -2), query * scale


def _load_weights(ranker: Any, settings: Settings) -> None:
    file = settings.weights
    state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu")
    try:
        missing = ranker.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise ModelError(f"judge weights {file} do not fit the base {settings.base}: {error}") from error
    if missing:
        raise ModelError(
            f"judge weights {file} lack {missing[0]} and {len(missing) - 1} more: copy the whole checkpoint"
        )


@contextmanager
def _transformers_4() -> Iterator[None]:
    """What llm-blender 0.0.2 imports and Transformers 5 took away (LLM-Blender issue 33), for as long as it is imported.

    It also imports vLLM when that is installed, 7 seconds for a type check that a ranker never reaches.
    """
    hub = transformers.utils.hub
    lent = not hasattr(hub, "TRANSFORMERS_CACHE")
    hidden = "vllm" not in sys.modules
    if lent:
        hub.TRANSFORMERS_CACHE = ""  # type: ignore[attr-defined]
    if hidden:
        sys.modules["vllm"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if lent:
            del hub.TRANSFORMERS_CACHE  # type: ignore[attr-defined]
        if hidden:
            del sys.modules["vllm"]
