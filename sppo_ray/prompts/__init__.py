"""Prompts as people have them: read, checked, deduplicated, shuffled, split into iterations, and encoded.

In: a `PromptSource` of the configuration. Out: `SourcePrompt`s as text; through `chat_template` (which loads
transformers) `Prompt`s as token ids.
"""

from sppo_ray.prompts.messages import BadRow, transcript
from sppo_ray.prompts.reading import SourcePrompt, iteration_prompts, read_prompts
from sppo_ray.prompts.rows import columns_read, parse_row
from sppo_ray.prompts.sources import open_table

__all__ = [
    "BadRow",
    "SourcePrompt",
    "chat_template",
    "columns_read",
    "iteration_prompts",
    "open_table",
    "parse_row",
    "read_prompts",
    "transcript",
]
