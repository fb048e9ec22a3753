"""An LLM as a judge: a chat model is asked which of two responses is better, in both orders.

In: prompts and responses as plain text. Out: c[i, j] = log odds that response i, shown as A, is better than response j, shown as B.
"""

from sppo_ray.judging.llm.kind import LLMKind

__all__ = ["LLMKind"]
