"""Byte-level BPE tokenizers trained on the playground; they encode any text losslessly.

In: texts of the playground. Out: the policy's tokenizer (Gemma's tokens and chat template) and the judge's (DeBERTa's).
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

POLICY_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
JUDGE_TOKENS = [
    "[PAD]",
    "[CLS]",
    "[SEP]",
    "[UNK]",
    "[MASK]",
    "<|source|>",
    "<|candidate1|>",
    "<|candidate2|>",
    "<|candidate|>",
]
VOCABULARY = 1600  # upper bound: training stops once every word is one token

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def save_policy_tokenizer(texts: list[str], folder: Path) -> None:
    tokenizer = _trained(texts, POLICY_TOKENS)
    tokenizer.post_processor = _layout(tokenizer, "<bos> $A", "<bos> $A <bos> $B", ["<bos>"])
    settings = {
        "pad_token": "<pad>",
        "eos_token": "<eos>",
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "padding_side": "left",
        "model_max_length": 4096,
        "chat_template": CHAT_TEMPLATE,
    }
    _save(tokenizer, settings, folder)


def save_judge_tokenizer(texts: list[str], folder: Path) -> None:
    tokenizer = _trained(texts, JUDGE_TOKENS)
    tokenizer.post_processor = _layout(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ["[CLS]", "[SEP]"])
    settings = {
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "unk_token": "[UNK]",
        "mask_token": "[MASK]",
        "model_max_length": 4096,
    }
    _save(tokenizer, settings, folder)


def _trained(texts: list[str], special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _layout(tokenizer: Tokenizer, single: str, pair: str, names: list[str]) -> processors.TemplateProcessing:
    ids = [(name, tokenizer.token_to_id(name)) for name in names]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _save(tokenizer: Tokenizer, settings: dict[str, object], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), "utf-8")
