"""The reward model as a judge: each response is scored once, K forward rows per prompt.

In: prompts and K responses to each, plain text without control tokens.
Out: c[i, j] = (s_i - s_j) / 2, so that at temperature 1 P[i, j] = sigmoid(s_i - s_j).
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sppo_ray.errors import ModelError
from sppo_ray.judging.batching import batches
from sppo_ray.judging.scores import score_logits


class RewardModel:
    """A sequence classifier with one label: the scores of a plain Transformers loop over its own chat template.

    batch_tokens: per forward pass, padding included.
    dtype: `float32` or `bfloat16`; by default bfloat16 on a GPU and float32 on a CPU.
    A conversation that is longer than the model's context loses its end; a prompt longer than half the context is cut to
    that first. Control tokens that a text spells out are blanked: they would forge turns.
    """

    def __init__(
        self, checkpoint: str, device: str = "cpu", batch_tokens: int = 32768, dtype: str | None = None
    ) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        from sppo_ray.judging.reward.checkpoint import KEY, read_checkpoint
        from sppo_ray.prompts import chat_template

        config, self._tokenizer = read_checkpoint(checkpoint)
        dtype = dtype or ("float32" if torch.device(device).type == "cpu" else "bfloat16")
        # Only eager attention caps its scores (Gemma 2).
        capped = getattr(config, "attn_logit_softcapping", None) is not None
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            chat_template.find_model(checkpoint, KEY),
            dtype=getattr(torch, dtype),
            output_loading_info=True,
            **({"attn_implementation": "eager"} if capped else {}),
        )
        if loaded["missing_keys"]:
            raise ModelError(
                f"{KEY}={checkpoint}: its weights lack {min(loaded['missing_keys'])}: copy the whole model"
            )
        self._model: Any = model.eval().to(device)
        model.config.use_cache = False
        text_config = model.config.get_text_config()
        self._padding: int | None = text_config.pad_token_id
        if (
            self._padding is None
        ):  # the score is read at the last token that is no padding: of unpadded rows, the last one
            text_config.pad_token_id = -1
        self._device, self._batch_tokens = device, batch_tokens
        limits = self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", None) or 1 << 30
        self._longest = min(limits)
        template = self._tokenizer.get_chat_template()
        added = [token for token in self._tokenizer.added_tokens_decoder.values() if token.content.strip()]
        control = {token.content for token in added if token.special or token.content in template}
        self._control = re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))) or r"(?!)")

    def compare(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        return score_logits(self.scores(prompts, candidates))

    def scores(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """(N, K) scores of N prompts with K responses each."""
        rows, _ = self._encode(prompts, candidates)
        # Equal conversations share one pass: less work, and exact ties.
        distinct = list(dict.fromkeys(map(tuple, rows)))
        found = np.empty(len(distinct), dtype=np.float32)
        lengths = np.array([len(row) for row in distinct], dtype=np.int64)
        # Without a padding token, only rows of one length share a pass.
        alike = [lengths == length for length in np.unique(lengths)] if self._padding is None else [lengths > 0]
        for group in map(np.flatnonzero, alike):
            for batch in batches(lengths[group], self._batch_tokens):
                found[group[batch]] = self._score([distinct[index] for index in group[batch]])
        place = {row: index for index, row in enumerate(distinct)}
        return found[[place[tuple(row)] for row in rows]].reshape(len(prompts), -1)

    def truncated(self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        _, cut = self._encode(prompts, candidates)
        either = cut[:, :, None] | cut[:, None, :]
        return either[:, ~np.eye(cut.shape[1], dtype=bool)].mean(axis=1, dtype=np.float32)

    def sleep(self) -> None:
        import torch

        self._model.to("cpu")
        torch.cuda.empty_cache()

    def wake(self) -> None:
        self._model.to(self._device)

    def _encode(
        self, prompts: Sequence[str], candidates: Sequence[Sequence[str]]
    ) -> tuple[list[list[int]], NDArray[np.bool_]]:
        """Token ids of the N * K conversations, and which of them (N, K) were cut."""
        encode: Any = self._tokenizer
        asked = [self._control.sub(" ", prompt) for prompt in prompts]
        long = np.zeros(len(asked), dtype=bool)
        for index, ids in enumerate(encode(asked, add_special_tokens=False, verbose=False)["input_ids"]):
            if len(ids) > self._longest // 2:
                asked[index], long[index] = encode.decode(ids[: self._longest // 2]), True
        chats = [
            [{"role": "user", "content": prompt}, {"role": "assistant", "content": self._control.sub(" ", text)}]
            for prompt, texts in zip(asked, candidates, strict=True)
            for text in texts
        ]
        rendered = encode.apply_chat_template(chats, tokenize=False)
        rows = encode(rendered, add_special_tokens=False, verbose=False)["input_ids"]
        cut = np.array([len(row) > self._longest for row in rows]).reshape(len(asked), -1) | long[:, None]
        return [row[: self._longest] for row in rows], cut

    def _score(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[self._padding] * (width - len(row))] for row in rows], device=self._device)
        mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        with torch.inference_mode():
            logits = self._model(input_ids=ids, attention_mask=mask.long().to(self._device)).logits
        scores: NDArray[np.float32] = logits[:, 0].float().cpu().numpy()
        return scores
