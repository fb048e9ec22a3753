"""PairRM, the pairwise ranker of llm-blender: DeBERTa over prompt and two responses, batched by a token budget.

In: a checkpoint folder or hub name, then texts. Out: the scores of llm-blender's `Blender.rank(..., batch_size=1)`.
The only package that touches llm-blender.
"""

from sppo_ray.judging.pairrm.judge import PairRM
from sppo_ray.judging.pairrm.kind import PairRMKind

__all__ = ["PairRM", "PairRMKind"]
