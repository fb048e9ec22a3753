"""Sampling from the policy: K responses per prompt for the run, and streamed answers to people.

In: `Prompt`s or a `ChatRequest`. Out: `Candidates` with the raw log-probability of each sampled token, or `TokenDelta`s;
short answers of a judge.
The only room that touches vLLM.
"""

from sppo_ray.sampling.child import end_with
from sppo_ray.sampling.environment import has_flashinfer_sampler
from sppo_ray.sampling.generator import Generator
from sppo_ray.sampling.short_answers import CACHE_BYTES, ShortAnswers
from sppo_ray.sampling.vllm_engine import VLLMGenerator

__all__ = ["CACHE_BYTES", "Generator", "ShortAnswers", "VLLMGenerator", "end_with", "has_flashinfer_sampler"]
