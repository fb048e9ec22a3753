"""PairRM's network, built from llm-blender's own classes, with a forward pass that computes only what a score needs.

In: a checkpoint's `Settings`, then rows of token ids with the positions of their prefix tokens.
Out: left score - right score per row.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers.utils.hub
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

from sppo_ray.errors import ModelError
from sppo_ray.judging.pairrm.attention import attend, distances_of, position_projections
from sppo_ray.judging.pairrm.checkpoint import Settings


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
        self._positions = [position_projections(layer.attention.self, self._encoder) for layer in self._encoder.layer]

    def to(self, device: str) -> None:
        """Move the network to a device and free its memory on the previous one."""
        if torch.device(device) == self._device:
            return
        self._ranker.to(device)
        self._positions = [(key.to(device), query.to(device)) for key, query in self._positions]
        self._device = torch.device(device)
        torch.cuda.empty_cache()

    @torch.inference_mode()
    def margins(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """(rows,) logits that the left candidate beats the right one.

        ids: (rows, width).  lengths: (rows,).  places: (rows, 3), the positions of the source, left and right prefix tokens.
        """
        ids, lengths, places = (tensor.to(self._device) for tensor in (ids, lengths, places))
        source, left, right = self._encode(ids, lengths, places).unbind(1)
        left_scores, right_scores, _ = self._ranker.reduce(source, left, right)
        return (left_scores - right_scores).mean(dim=-1).float().cpu()

    def _encode(self, ids: Tensor, lengths: Tensor, places: Tensor) -> Tensor:
        """(rows, 3, hidden): the last hidden states at `places`, the only ones that the last layer computes."""
        width = ids.shape[1]
        mask = torch.arange(width, device=ids.device) < lengths[:, None]
        distances = distances_of(self._encoder.layer[0].attention.self, width, ids.device)
        hidden = self._embeddings(input_ids=ids, mask=mask)
        penalty = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill_(~mask, float("-inf"))[:, None, None, :]
        *layers, last = zip(self._encoder.layer, self._positions, strict=True)
        for number, (layer, positions) in enumerate(layers):
            context = attend(layer.attention.self, positions, hidden, hidden, None, distances, penalty)
            output = _feed_forward(layer, context, hidden)
            if number == 0 and self._encoder.conv is not None:
                output = self._encoder.conv(hidden, output, mask.long())
            hidden = output
        layer, positions = last
        queries = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        context = attend(layer.attention.self, positions, queries, hidden, places, distances, penalty)
        return _feed_forward(layer, context, queries)


def _feed_forward(layer: Any, context: Tensor, hidden: Tensor) -> Tensor:
    attended = layer.attention.output(context, hidden)
    return layer.output(layer.intermediate(attended), attended)


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
    """While llm-blender 0.0.2 is imported, put back the name that Transformers 5 removed (LLM-Blender issue 33).

    It also imports vLLM where that is installed, 7 seconds for a type check that a ranker never reaches: hide it.
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
