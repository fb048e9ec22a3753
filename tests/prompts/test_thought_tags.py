"""The pattern of a thought follows from the tokenizer; what judges are shown follows from the pattern."""

import pytest
from tokenizers import AddedToken

from sppo_ray.judging import answer
from sppo_ray.prompts.chat_template import ChatEncoder, hidden_tokens
from sppo_ray.prompts.thought_tags import thought_pattern
from tests.prompts.chat_templates import make_tokenizer

CHAT = "{%- for m in messages %}{{- m.role + ': ' + m.content.split('</think>')[-1] + '\\n' }}{%- endfor %}assistant:"
OPENED = CHAT + "<think>\n"
CLOSED = CHAT + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    "template, response, shown",
    [
        (CHAT, "<think>2 + 2 = 4</think>\n\nFour.", "Four."),
        (CHAT, "\n<think>\n\n</think>\n\nFour.", "Four."),
        (CHAT, "2 + 2 = 4</think>Four.", "Four."),  # the opening tag is no word of some models
        (CHAT, "<think>cut off before it en", ""),
        (CHAT, "Four, I think.", "Four, I think."),
        (CHAT, "<think>a</think>Close it with </think>.", "Close it with </think>."),
        (OPENED, "2 + 2 = 4\n</think>\n\nFour.", "Four."),
        (OPENED, "cut off before it en", ""),
        (CLOSED, "Four, without a thought.", "Four, without a thought."),
        ("{{ messages[0].content }}", "<think>text to a model without thoughts</think>", None),
    ],
)
def test_the_answer_without_its_thought(template: str, response: str, shown: str | None) -> None:
    tokenizer = make_tokenizer("llama-3")
    tokenizer.chat_template = template
    pattern = ChatEncoder(tokenizer).thoughts()
    assert (pattern is None) == (shown is None)
    assert answer(response, pattern) == (response if shown is None else shown)


def test_the_tokenizers_own_rule_comes_first() -> None:
    fields = {"reasoning_content": {"open_pattern": "<seed:think>", "close": ["</seed:think>", "<END>"]}, "content": {}}
    pattern = thought_pattern(CHAT, {"fields": fields}, "user: hi")
    assert answer("<seed:think>hm<END>\nYes.", pattern) == "Yes."
    assert answer("<think>hm</think>Yes.", pattern) == "<think>hm</think>Yes."


def test_a_pattern_of_the_user() -> None:
    assert answer("[[a]] Yes [[b]]", r"\[\[.*?\]\] ") == "Yes [[b]]"
    assert answer("<think>a</think>Yes", "") == "<think>a</think>Yes"


def test_special_tokens_that_the_pattern_needs_stay_in_the_text() -> None:
    tokenizer = make_tokenizer("llama-3")
    tokenizer.add_tokens([AddedToken(name, special=True) for name in ("[THINK]", "[/THINK]")])
    ids = tokenizer.encode("[THINK]hm[/THINK]Yes.<|eot_id|>", add_special_tokens=False)
    pattern = thought_pattern("[THINK] [/THINK]", None, "")
    for thoughts, text in ((pattern, "[THINK]hm[/THINK]Yes."), (None, "hmYes.")):
        hidden = hidden_tokens(tokenizer, thoughts)
        assert tokenizer.decode([number for number in ids if number not in hidden]) == text
    assert answer("[THINK]hm[/THINK]Yes.", pattern) == "Yes."
