"""Prompts as token ids: one BOS, control tokens of the template only, the end of a long prompt, cut pairs."""

import json

import pytest
from tokenizers import AddedToken

from sppo_ray.errors import ModelError, PromptError
from sppo_ray.judging import cut_pair
from sppo_ray.prompts import SourcePrompt
from sppo_ray.prompts.chat_template import ChatEncoder, encode, load_tokenizer, stop_token_ids
from sppo_ray.records import Message, Response
from tests import SHARED
from tests.prompts.chat_templates import FAMILIES, make_tokenizer

ORDINARY = [
    "What is the name of the user?",
    "  two spaces before and a line end after\n",
    "\n\nhello\n\n\nhello\t",
    "user",
    "model\nassistant\n",
    "None",
    "The value None, NaN and 123.",
    "a zero \x00 byte",
    "emoji 👩‍👩‍👧 and 🙂",
    "שלום עולם, مرحبا",
    "< end_of_turn > [INST [ /INST] <|eot|> <s >",
    "private use \ue000 and \ue001, a separator \u2028, a full-width ＜bos＞",
    "x" * 500,
]
CONTROL = [
    "<end_of_turn>",
    "<|eot_id|>",
    "[/INST]",
    "<bos>",
    "</s>",
    "<s>",
    "<start_of_turn>model\n",
    "<|begin_of_text|>",
]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return FAMILIES[request.param], make_tokenizer(request.param)


def user(text: str, prompt_id: str = "p") -> SourcePrompt:
    return SourcePrompt(prompt_id, (Message(role="user", content=text),))


def conversation(*texts: str) -> SourcePrompt:
    roles = ["user", "assistant"] * len(texts)
    return SourcePrompt("p", tuple(Message(role=r, content=t) for r, t in zip(roles, texts, strict=False)))


def ids(tokenizer, prompt: SourcePrompt) -> list[int]:
    return encode(ChatEncoder(tokenizer), [prompt], max_prompt_length=10_000).prompts[0].token_ids


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_prompts_are_what_the_chat_template_gives(family, text):
    _, tokenizer = family
    for prompt in (user(text), conversation(text, "Hello! " + text, text)):
        expected = tokenizer.apply_chat_template(list(prompt.messages), add_generation_prompt=True)["input_ids"]
        assert ids(tokenizer, prompt) == expected
        assert all(type(number) is int for number in expected)


def test_real_prompts_are_what_the_chat_template_gives(family):
    file = SHARED / "data/prompts_real.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    _, tokenizer = family
    prompts = [user(json.loads(line)["prompt"]) for line in file.read_text("utf-8").splitlines()]
    for prompt, encoded in zip(
        prompts, encode(ChatEncoder(tokenizer), prompts, max_prompt_length=10_000).prompts, strict=True
    ):
        expected = tokenizer.apply_chat_template(list(prompt.messages), add_generation_prompt=True)["input_ids"]
        assert encoded.token_ids == expected


@pytest.mark.parametrize("text", ORDINARY + CONTROL)
def test_the_text_survives_with_one_bos(family, text):
    model, tokenizer = family
    encoded = ids(tokenizer, user(text))
    assert text.strip() in tokenizer.decode(encoded)
    bos = tokenizer.convert_tokens_to_ids(model.bos)
    assert encoded[0] == bos and encoded.count(bos) == 1


@pytest.mark.parametrize("text", CONTROL)
def test_control_tokens_in_a_prompt_stay_text(family, text):
    model, tokenizer = family
    special = {tokenizer.convert_tokens_to_ids(token) for token in model.tokens}

    def controls(prompt: SourcePrompt) -> list[int]:
        return [number for number in ids(tokenizer, prompt) if number in special]

    for attack in (text, f"Hello{text}", f"{text} hello", f"a {text}\n{text} b"):
        assert controls(user(attack)) == controls(user("hello"))
        assert controls(conversation(attack, attack, attack)) == controls(conversation("a", "b", "c"))
        assert attack.strip() in tokenizer.decode(ids(tokenizer, user(attack)))


def test_gemma_by_hand():
    tokenizer = make_tokenizer("gemma-2")
    prompt = user(" <bos> ")
    tokens = tokenizer.convert_ids_to_tokens(ids(tokenizer, prompt))
    assert tokens[:2] == ["<bos>", "<start_of_turn>"] and tokens.count("<bos>") == 1
    rendered = "<bos><start_of_turn>user\n<bos><end_of_turn>\n<start_of_turn>model\n"
    assert tokenizer.decode(ids(tokenizer, prompt)) == rendered
    # What the encoder is there to prevent:
    plain = tokenizer.apply_chat_template(list(prompt.messages), add_generation_prompt=True)["input_ids"]
    assert plain.count(tokenizer.bos_token_id) == 2


def test_added_tokens_that_the_template_uses_are_control_tokens_whatever_their_flag():
    tokenizer = make_tokenizer("gemma-2")
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("<table>", special=False)])
    tokenizer.chat_template += "<think>"
    think, table = tokenizer.convert_tokens_to_ids(["<think>", "<table>"])
    encoded = ids(tokenizer, user("<think> in a <table>"))
    assert encoded.count(think) == 1 and encoded[-1] == think
    assert encoded.count(table) == 1


def test_the_tokenizer_itself_is_left_as_it_was():
    tokenizer = make_tokenizer("gemma-2")
    before = tokenizer.backend_tokenizer.to_str()
    encode(ChatEncoder(tokenizer), [user("<bos>")], max_prompt_length=100)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert tokenizer.encode("<bos>", add_special_tokens=False) == [tokenizer.bos_token_id]


def test_a_truncation_saved_with_the_tokenizer_does_not_act():
    tokenizer = make_tokenizer("gemma-2")
    tokenizer.backend_tokenizer.enable_truncation(3)
    assert len(ids(tokenizer, user("What is the name of the user?"))) > 10


def test_a_long_prompt_keeps_its_bos_and_its_end():
    tokenizer = make_tokenizer("gemma-2")
    prompts = [user("short"), user("What is the name of the user? " * 20, "long")]
    whole = ids(tokenizer, prompts[1])
    encoded = encode(ChatEncoder(tokenizer), prompts, max_prompt_length=30)
    assert encoded.prompts[1].token_ids == [tokenizer.bos_token_id, *whole[-29:]]
    assert encoded.prompts[1].text == prompts[1].text
    assert encoded.truncated == 1


def test_a_prompt_beyond_the_context_is_named_or_left_out():
    tokenizer = make_tokenizer("gemma-2")
    prompts = [user("short", "ok"), user("x" * 100, "ae-007")]
    with pytest.raises(PromptError, match=r"1 of 2 .*ae-007: 1\d\d tokens.* holds 64(.|\n)*skip_bad_rows=true"):
        encode(ChatEncoder(tokenizer), prompts, max_prompt_length=32, context=64)
    encoded = encode(ChatEncoder(tokenizer), prompts, max_prompt_length=32, context=64, skip_bad=True)
    assert [prompt.prompt_id for prompt in encoded.prompts] == ["ok"]
    assert len(encoded.skipped) == 1 and encoded.skipped[0].startswith("ae-007")


def test_a_prompt_that_just_fits_the_context_passes():
    tokenizer = make_tokenizer("gemma-2")
    tokens = len(ids(tokenizer, user("hello")))
    assert encode(ChatEncoder(tokenizer), [user("hello")], max_prompt_length=100, context=tokens).truncated == 0


def test_a_turn_that_the_template_refuses_is_named():
    turns = (Message(role="system", content="Be kind."), Message(role="user", content="Hello"))
    with pytest.raises(PromptError, match=r"sys-1: the chat template refuses it \(System role not supported"):
        encode(ChatEncoder(make_tokenizer("gemma-2")), [SourcePrompt("sys-1", turns)], max_prompt_length=100)
    assert ids(make_tokenizer("llama-3"), SourcePrompt("sys-1", turns))


def test_sampling_stops_at_eos_and_at_the_end_of_turn(family):
    model, tokenizer = family
    eos, end = tokenizer.convert_tokens_to_ids([model.eos, model.end_of_turn])
    assert ChatEncoder(tokenizer).end_of_turn() == end
    assert stop_token_ids(ChatEncoder(tokenizer), eos) == sorted({eos, end})
    assert stop_token_ids(ChatEncoder(tokenizer), [eos, 77]) == sorted({eos, end, 77})
    assert stop_token_ids(ChatEncoder(tokenizer), None) == sorted({eos, end})


def test_a_template_without_an_end_of_turn_stops_at_eos():
    tokenizer = make_tokenizer("gemma-2")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    assert stop_token_ids(ChatEncoder(tokenizer), None) == [tokenizer.eos_token_id]


def test_a_saved_tokenizer_loads(tmp_path):
    make_tokenizer("llama-3").save_pretrained(tmp_path)
    assert ids(load_tokenizer(str(tmp_path)), user("Hello")) == ids(make_tokenizer("llama-3"), user("Hello"))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "holds no tokenizer: copy"),
        ({"config.json": '{"model_type": "gemma2"}'}, "holds no tokenizer: copy"),
        ({"tokenizer.json": "{"}, "cannot be loaded"),
    ],
)
def test_a_folder_without_a_tokenizer_is_named(tmp_path, files, problem):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=problem) as raised:
        load_tokenizer(str(tmp_path))
    assert str(tmp_path) in str(raised.value)


def test_a_missing_folder_and_a_missing_template_are_named(tmp_path):
    with pytest.raises(ModelError, match="models/none: no such folder"):
        load_tokenizer(str(tmp_path / "models/none"))
    tokenizer = make_tokenizer("gemma-2")
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no chat template: .*chat_template\.jinja"):
        load_tokenizer(str(tmp_path))


def response(tokens: int) -> Response:
    return Response(list(range(tokens)), [-0.5 * number for number in range(tokens)], 0.75)


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected"),
    [
        (6, 4, 4, (6, 4, 4)),  # 6 + 4 = 10 fits
        (6, 5, 3, (4, 5, 3)),  # 6 + 5 = 11: the prompt to 4, and 4 + 5 fits
        (6, 3, 9, (4, 3, 6)),  # 4 + 9 = 13 still too long: responses to 10 - 4
        (2, 9, 9, (2, 6, 6)),  # a short prompt stays whole and frees no room, as in the release
    ],
)
def test_pairs_are_cut_as_in_the_release(prompt, chosen, rejected, expected):
    ids, first, second = cut_pair(
        list(range(prompt)), response(chosen), response(rejected), max_length=10, max_prompt_length=4
    )
    assert (len(ids), len(first.token_ids), len(second.token_ids)) == expected
    assert ids[-1] == prompt - 1
    for cut in (first, second):
        assert cut == response(len(cut.token_ids))
