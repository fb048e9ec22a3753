"""The checksum of weights: equal for one model in many forms, different for the smallest change."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sppo_ray.run_folder.weight_sums import folder_sum, tensor_sum
from sppo_ray.sampling.worker import combined

BOTH = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])


def test_by_hand() -> None:
    # 1.0 and -1.0 are the bits 0x3f80 and 0xbf80, the latter as a 16-bit integer -16512.
    assert tensor_sum(torch.tensor([1.0, 0.0, -0.0], dtype=torch.bfloat16)) == 16256**3
    assert tensor_sum(torch.tensor([-1.0], dtype=torch.bfloat16)) == 2**64 - 16512**3
    # As 32 bits, 0x3f800000; its upper half is folded into the lower.
    assert tensor_sum(torch.tensor([1.0])) == (0x3F80_3F80**3) % 2**64


@BOTH
def test_fused_padded_or_transposed_it_is_the_same(dtype: torch.dtype) -> None:
    first, second = (torch.randn(5, 3).to(dtype) for _ in range(2))
    fused = torch.cat([first, second, torch.zeros(4, 3, dtype=dtype)]).t()
    assert tensor_sum(fused) == (tensor_sum(first) + tensor_sum(second)) % 2**64


@BOTH
def test_changes_that_cancel_show(dtype: torch.dtype) -> None:
    weights = torch.randn(4).to(torch.bfloat16).to(dtype)  # bfloat16 in float32 has 16 bits that are 0
    unit = 1 << (16 if dtype == torch.float32 else 0)
    bits = weights.view(torch.int32 if dtype == torch.float32 else torch.int16)
    changed = (bits + torch.tensor([unit, -unit, 0, 0], dtype=bits.dtype)).view(dtype)
    assert tensor_sum(changed) != tensor_sum(weights)


def test_a_folder_counts_tied_embeddings_once_and_rounds_as_an_engine_does(tmp_path: Path) -> None:
    embeddings, head = torch.randn(7, 3), torch.randn(7, 3)
    rounded = embeddings.to(torch.bfloat16)
    one, tied, untied = (tmp_path / name for name in ("one", "tied", "untied"))
    for folder, extra in (
        (one, {}),
        (tied, {"lm_head.weight": embeddings.clone()}),
        (untied, {"lm_head.weight": head}),
    ):
        folder.mkdir()
        ids = {"model.position_ids": torch.arange(3)}
        save_file({"model.embed_tokens.weight": embeddings, **extra, **ids}, folder / "model.safetensors")
    assert folder_sum(one, torch.bfloat16) == folder_sum(tied, torch.bfloat16) == format(tensor_sum(rounded), "016x")
    assert folder_sum(untied, torch.bfloat16) != folder_sum(one, torch.bfloat16)


def test_workers_parts_are_added_and_what_all_hold_counts_once() -> None:
    assert combined([{"norm": 5, "linear": 2}, {"norm": 5, "linear": 9}]) == format(16, "016x")
