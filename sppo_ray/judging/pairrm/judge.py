"""The PairRM judge: texts to token rows, rows to batches, batches to comparison logits.

In: prompts and K responses to each, plain text without control tokens.
Out: c[i, j] = left score - right score, the logit that response i, placed left, beats response j.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sppo_ray.judging.batching import Ints, batches
from sppo_ray.judging.orders import both_orders, to_compare
from sppo_ray.judging.pairrm.checkpoint import local_settings


class PairRM:
    """A PairRM checkpoint: at any batch size, the scores of llm-blender's `Blender.rank(..., batch_size=1)`.

    batch_tokens: per forward pass, padding included.  source_max_length, candidate_max_length: tokens of the prompt and
    of each response that are read, by default the checkpoint's own; tokens that a short prompt leaves free go to the responses.
    orders: 2 compares all ordered pairs, 1 each pair once in random order.
    dtype: `float32`, `float16` or `bfloat16`; by default float16 on a GPU, as in llm-blender, and float32 on a CPU.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        device: str = "cpu",
        batch_tokens: int = 32768,
        source_max_length: int | None = None,
        candidate_max_length: int | None = None,
        dtype: str | None = None,
        orders: int = 2,
    ):
        settings = local_settings(checkpoint)
        # Imported here so that checking a configuration does not load torch.
        import torch

        from sppo_ray.judging.pairrm.model import PairRMModel

        on_cpu = torch.device(device).type == "cpu"
        dtype = dtype or ("float32" if on_cpu else "float16")
        self._model = PairRMModel(settings, device, getattr(torch, dtype))
        self._device = device
        self._multiple = 1 if on_cpu else 8  # of the widths: a GPU's matrix units take whole blocks
        self._as_tensor = torch.from_numpy
        self._batch_tokens, self._orders = batch_tokens, orders
        self._source_max_length = source_max_length or settings.source_max_length
        self._candidate_max_length = candidate_max_length or settings.candidate_max_length

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        parts = self._encode(prompts, candidates)
        number, each = parts.same_as.shape
        comparisons = np.zeros((number, each, each), dtype=np.float32)
        wanted = to_compare(prompts, candidates, self._orders)
        prompt, left, right = np.nonzero(wanted)
        # Equal texts share one comparison: less work, and exact ties.
        pairs = (prompt * each + parts.same_as[prompt, left]) * each + parts.same_as[prompt, right]
        distinct, inverse = np.unique(pairs, return_inverse=True)
        rows = np.stack([distinct // each**2, distinct // each % each, distinct % each], axis=1)
        margins = np.empty(len(rows), dtype=np.float32)
        for batch in batches(_whole(parts.row_lengths(rows), self._multiple), self._batch_tokens):
            ids, lengths, places = parts.assemble(rows[batch], self._multiple)
            tensors = (self._as_tensor(array) for array in (ids, lengths, places))
            margins[batch] = self._model.margins(*tensors).numpy()
        comparisons[prompt, left, right] = margins[inverse]
        return both_orders(comparisons, wanted)

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        parts = self._encode(prompts, candidates)
        cut = parts.source_cut[:, None, None] | parts.cut[:, :, None] | parts.cut[:, None, :]
        return cut[:, ~np.eye(parts.cut.shape[1], dtype=bool)].mean(axis=1, dtype=np.float32)

    def sleep(self) -> None:
        self._model.to("cpu")

    def wake(self) -> None:
        self._model.to(self._device)

    def _encode(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> "_Parts":
        each = len(candidates[0])
        if len(prompts) != len(candidates) or any(len(texts) != each for texts in candidates):
            raise ValueError(f"{len(prompts)} prompts need as many lists of candidates, all of one length")
        tokenizer: Any = self._model.tokenizer
        # llm-blender blanks a literal [SEP] but fails on its own prefix tokens; either would forge the layout of a row.
        markers = [tokenizer.sep_token, tokenizer.source_prefix, tokenizer.candidate_prefix]
        markers += [tokenizer.candidate1_prefix, tokenizer.candidate2_prefix]

        def plain(text: str) -> str:
            for marker in markers:
                text = text.replace(marker, " ")
            return text

        texts = [tokenizer.source_prefix + plain(prompt) for prompt in prompts]
        texts += [tokenizer.candidate_prefix + plain(text) for several in candidates for text in several]
        encoded = tokenizer(texts, return_attention_mask=False, return_token_type_ids=False, verbose=False)["input_ids"]
        full = np.array([len(ids) for ids in encoded], dtype=np.int64)
        sources, number = full[: len(prompts)].clip(max=self._source_max_length), len(prompts)
        allowance = self._candidate_max_length + (self._source_max_length - sources) // 2
        lengths = np.minimum(full[number:].reshape(number, each), allowance[:, None])
        flat = np.concatenate(encoded).astype(np.int64)
        starts = np.concatenate([[0], full.cumsum()[:-1]])
        kept = np.concatenate([sources, lengths.ravel()])
        flat[starts + kept - 1] = tokenizer.sep_token_id  # a cut text still ends with the separator
        return _Parts(
            flat=flat,
            sources=np.stack([starts[:number], sources], axis=1),
            starts=starts[number:].reshape(number, each),
            lengths=lengths,
            source_cut=sources < full[:number],
            cut=lengths < full[number:].reshape(number, each),
            same_as=np.array(
                [[texts.index(text) for text in texts] for texts in map(list, candidates)], dtype=np.int64
            ),
            prefixes=(tokenizer.cand1_prefix_id, tokenizer.cand2_prefix_id),
        )


@dataclass(frozen=True)
class _Parts:
    """The tokens of N prompts and N x K candidates, each [CLS] prefix text [SEP], cut to its allowance."""

    flat: Ints  # all tokens, concatenated
    sources: Ints  # (N, 2): start and length of each prompt in `flat`
    starts: Ints  # (N, K): start of each candidate in `flat`
    lengths: Ints  # (N, K)
    source_cut: NDArray[np.bool_]  # (N,)
    cut: NDArray[np.bool_]  # (N, K)
    same_as: Ints  # (N, K): the first candidate of the prompt with the same text
    prefixes: tuple[int, int]  # ids of the left and right candidates' prefix tokens

    def row_lengths(self, rows: Ints) -> Ints:
        prompt, left, right = rows.T
        return self.sources[prompt, 1] + self.lengths[prompt, left] + self.lengths[prompt, right]

    def assemble(self, rows: Ints, multiple: int) -> tuple[Ints, Ints, Ints]:
        """Rows (prompt, left, right) as padded ids (R, W), lengths (R,) and positions (R, 3) of the prefix tokens.

        W is a multiple of `multiple`.
        """
        prompt, left, right = rows.T
        source = self.sources[prompt, 1]
        middle = source + self.lengths[prompt, left]
        lengths = middle + self.lengths[prompt, right]
        column = np.arange(_whole(lengths.max(), multiple))
        shift = np.where(
            column < source[:, None],
            self.sources[prompt, 0][:, None],
            np.where(
                column < middle[:, None],
                (self.starts[prompt, left] - source)[:, None],
                (self.starts[prompt, right] - middle)[:, None],
            ),
        )
        inside = column < lengths[:, None]
        ids = np.where(inside, self.flat[np.where(inside, column + shift, 0)], 0)
        places = np.stack([np.ones_like(source), source + 1, middle + 1], axis=1)
        ids[np.arange(len(rows))[:, None], places[:, 1:]] = self.prefixes
        return ids, lengths, places


def _whole(lengths: Any, multiple: int) -> Any:
    return -(-lengths // multiple) * multiple
