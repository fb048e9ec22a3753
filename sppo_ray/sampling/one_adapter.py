"""vLLM's products with an adapter on a CPU, where all tokens have the same one.

vLLM copies the adapter's two matrices for every token there, as each token could have an adapter of its own.
"""

from typing import Any

from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.platforms import current_platform


class OneAdapter(PunicaWrapperCPU):
    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """y[:, slice] += scale * x A^T B^T of each slice, the first product in float32.

        y: (tokens, all slices).  x: (tokens, hidden).  A: (1, 1, rank, hidden).  B: (1, 1, slice, rank).
        """
        if self.token_lora_indices[0] < 0:  # the base alone
            return
        x, y = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1])
        parts = y.split(list(output_slices), dim=1)
        for part, a, b in zip(parts, lora_a_stacked, lora_b_stacked, strict=True):
            low = scale * (x.float() @ a[0, 0].float().T)
            part += low.to(y.dtype) @ b[0, 0].to(y.dtype).T


def use() -> None:
    """Of engines of this process that start afterwards."""
    current_platform.get_punica_wrapper = lambda: f"{OneAdapter.__module__}.{OneAdapter.__name__}"  # type: ignore[method-assign]
