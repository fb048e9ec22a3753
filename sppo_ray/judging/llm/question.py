"""The question that an LLM is asked about two responses.

In: the packaged template, or a user's file; a prompt and two responses. Out: the text of one user turn.
"""

import re
from pathlib import Path

from sppo_ray.errors import ConfigError

PACKAGED = Path(__file__).with_name("question.txt")
FIELDS = ("prompt", "response_a", "response_b")
EXAMPLE = "What is the capital of France?", "Paris", "Rome"


def read_template(file: str | None) -> str:
    """Raises `ConfigError` naming a file that cannot be read, or the placeholder that it lacks."""
    path = Path(file) if file else PACKAGED
    try:
        template = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"judge.prompt={path} cannot be read ({error}): give a text file in UTF-8") from None
    for name in FIELDS:
        if f"{{{name}}}" not in template:
            raise ConfigError(f"judge.prompt={path} lacks {{{name}}}: it has to contain {{{'}, {'.join(FIELDS)}}}")
    return template


def question(template: str, prompt: str, response_a: str, response_b: str) -> str:
    """The template with the texts in place of its placeholders. Those that a text spells out stay as they are."""
    texts = dict(zip(FIELDS, (prompt, response_a, response_b), strict=True))
    return re.sub(f"{{({'|'.join(FIELDS)})}}", lambda match: texts[match[1]], template)
