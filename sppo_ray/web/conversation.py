"""The messages of a chat request as the policy's conversation.

In: messages as OpenAI's clients send them. Out: `Message`s that end with the user's, or a problem of status 400 that
names the message and the remedy.
"""

from collections.abc import Sequence

from fastapi import HTTPException

from sppo_ray.records import Message
from sppo_ray.web.chat_models import ChatMessage


def conversation(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Without system messages that say nothing, which clients send for "no instructions"."""
    found = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.role in ("tool", "function") or message.tool_calls:
            raise HTTPException(400, f"{where}: the policy cannot call tools; leave out tool calls and their results")
        role = "system" if message.role == "developer" else message.role
        text = _text(message, where)
        if role == "user" and not text.strip():
            raise HTTPException(400, f"{where}: the user's message is empty")
        if role != "system" or text.strip():
            found.append(Message(role=role, content=text))
    if not found or found[-1]["role"] != "user":
        raise HTTPException(
            400, "messages: the policy answers the user and continues no other message; end with a user message"
        )
    return tuple(found)


def _text(message: ChatMessage, where: str) -> str:
    """Several text parts become lines, as vLLM's own server joins them."""
    parts = message.content if isinstance(message.content, list) else []
    for part in parts:
        if part.type != "text" or part.text is None:
            raise HTTPException(400, f"{where}: the policy reads text only, not a content part of type {part.type}")
    text = "\n".join(part.text or "" for part in parts) if parts else message.content or ""
    assert isinstance(text, str)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HTTPException(400, f"{where}: the text is not Unicode (half a surrogate pair)") from None
    return text
