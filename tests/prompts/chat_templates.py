"""The chat templates of the recipes' models, each on a small tokenizer with that model's own control tokens.

In: "gemma-2", "llama-3", "mistral", or "mistral-metaspace" (its SentencePiece way of spaces). Out: a fast tokenizer.
"""

from dataclasses import dataclass

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
GEMMA_2 = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL_V02 = (
    "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    template: str
    tokens: list[str]  # in the order of their ids, which start at 0
    bos: str
    eos: str  # of the model's generation config
    end_of_turn: str
    metaspace: bool = False


GEMMA_TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
LLAMA_TOKENS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
MISTRAL_TOKENS = ["<unk>", "<s>", "</s>"]

FAMILIES = {
    "gemma-2": Family(GEMMA_2, GEMMA_TOKENS, "<bos>", "<eos>", "<end_of_turn>"),
    "llama-3": Family(LLAMA_3, LLAMA_TOKENS, "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    "mistral": Family(MISTRAL_V02, MISTRAL_TOKENS, "<s>", "</s>", "</s>"),
    "mistral-metaspace": Family(MISTRAL_V02, MISTRAL_TOKENS, "<s>", "</s>", "</s>", metaspace=True),
}

# Trained on text around which merges happen: role names, line ends, brackets, pieces of control tokens.
TEXTS = [
    "user\nWhat is the name of the user? model\nThe model is named.\n\nassistant\n\n [INST] Say hello [/INST] Hello!",
    "end_of_turn start_of_turn eot_id begin_of_text bos eos </s> <end_of_turn> <|eot_id|> None [/INST]",
]


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    family = FAMILIES[name]
    backend = Tokenizer(models.BPE(byte_fallback=family.metaspace))
    if family.metaspace:
        # Only the text's first piece gets a space in front: what a piece becomes depends on where it stands.
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special, alphabet = [*family.tokens, *(f"<0x{byte:02X}>" for byte in range(256))], ["▁"]
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        special, alphabet = family.tokens, pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    bos = (family.bos, backend.token_to_id(family.bos))
    backend.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=family.bos,
        eos_token=family.eos,
        additional_special_tokens=family.tokens,
        clean_up_tokenization_spaces=False,
        chat_template=family.template,
    )
