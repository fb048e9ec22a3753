"""Publishing a policy: a Hugging Face model folder that appears whole.

In: a stream of named tensors and the model whose configuration and tokenizer they keep. Out: a `Snapshot`.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sppo_ray import files
from sppo_ray.records import Snapshot
from sppo_ray.snapshots import MANIFEST

SHARD_BYTES = 4 << 30


def publish(
    folder: Path,
    iteration: int,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterable[tuple[str, torch.Tensor]],
    base: str,
    card: str,
    shard_bytes: int = SHARD_BYTES,
    trust_remote_code: bool = False,
) -> Snapshot:
    """Write a model folder from a stream of tensors, holding one shard in memory, and give it its name at the end.

    shapes: of all tensors, in the order in which they come.  base: the model whose configuration and tokenizer it keeps.
    card: the text of its README.md.
    """
    temporary = files.temporary_name(folder)
    temporary.mkdir(parents=True)
    _copy_base(base, temporary, dtype, trust_remote_code)
    _write_shards(temporary, shapes, dtype, iter(tensors), shard_bytes)
    # The manifest seals what engines load. The card is for people, and written again after each evaluation.
    manifest = {
        "iteration": iteration,
        "files": {file.name: files.digest_file(file) for file in sorted(temporary.iterdir())},
    }
    (temporary / "README.md").write_text(card, encoding="utf-8")
    data = json.dumps(manifest, indent=2).encode()
    (temporary / MANIFEST).write_bytes(data)
    if folder.exists():  # left there by a publication whose manifest does not match
        shutil.rmtree(folder)
    files.publish_folder(temporary, folder)
    return Snapshot(iteration, str(folder), files.digest_bytes(data))


def torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _copy_base(base: str, folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    config.dtype = dtype
    config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code).save_pretrained(folder)
    GenerationConfig.from_pretrained(base).save_pretrained(folder)


def _write_shards(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterator[tuple[str, torch.Tensor]],
    shard_bytes: int,
) -> None:
    sizes = {name: torch.Size(shape).numel() * dtype.itemsize for name, shape in shapes.items()}
    shards = _plan(sizes, shard_bytes)
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for file, members in zip(names, shards, strict=True):
        shard = {}
        for expected in members:
            name, tensor = next(tensors)
            assert name == expected, (name, expected)
            shard[name] = tensor.to(dtype).contiguous()
        save_file(shard, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        index: dict[str, Any] = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file for file, members in zip(names, shards, strict=True) for name in members},
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _plan(sizes: dict[str, int], shard_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards
