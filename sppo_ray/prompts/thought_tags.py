"""Tags between which models write their thoughts, and the pattern of a thought that follows from them.

In: the text of a chat template, the end of a rendered prompt. Out: a regular expression for `policy.thoughts`.
"""

import re
from typing import Any

# Opening and closing tag: Qwen, DeepSeek, GLM and many more; Magistral; Gemma 4.
TAGS = {"<think>": "</think>", "[THINK]": "[/THINK]", "<|channel>thought": "<channel|>"}
FIELDS = ("thinking", "reasoning_content", "reasoning")  # of a tokenizer's `response_template`


def thought_pattern(template: str, response_template: dict[str, Any] | None, prompt: str) -> str | None:
    """The pattern of a thought at the start of a response, by the tokenizer's own rule; None for a model without thoughts.

    prompt: a rendered prompt; it may end with the tag that opens the thought. A thought that was cut off has no answer.
    """
    tags = _of_response_template(response_template) or _of_chat_template(template)
    if tags is None:
        return None
    opening, closing = tags
    last = max((match.end() for match in re.finditer(opening, prompt)), default=None)
    if last is not None and not re.search(closing, prompt[last:]):
        return rf"(?s)\A.*?(?:{closing}\s*|\Z)"
    return rf"(?s)\A(?:.*?{closing}\s*|\s*{opening}.*)"


def _of_response_template(response_template: dict[str, Any] | None) -> tuple[str, str] | None:
    fields = (response_template or {}).get("fields", {})
    for field in (fields[name] for name in FIELDS if name in fields):
        opening, closing = (_pattern(field, side) for side in ("open", "close"))
        if opening and closing:
            return opening, closing
    return None


def _pattern(field: dict[str, Any], side: str) -> str | None:
    if f"{side}_pattern" in field:
        return f"(?:{field[f'{side}_pattern']})"
    literals = field.get(side, [])
    literals = [literals] if isinstance(literals, str) else literals
    return f"(?:{'|'.join(map(re.escape, literals))})" if literals else None


def _of_chat_template(template: str) -> tuple[str, str] | None:
    for opening, closing in TAGS.items():
        if closing in template:
            return re.escape(opening), re.escape(closing)
    return None
