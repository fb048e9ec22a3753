"""Publishing a policy: a Hugging Face model folder that appears whole.

In: a stream of named tensors and the model whose configuration and tokenizer they keep. Out: a `Snapshot`.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sppo_ray import files
from sppo_ray.records import Snapshot
from sppo_ray.snapshots import MANIFEST, withdraw
from sppo_ray.storage import remote, reporting

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
    temporary = Path(tempfile.mkdtemp()) if remote(folder) else files.temporary_name(folder)
    try:
        with reporting(temporary):
            files.disk.make_folder(temporary)
            _copy_base(base, temporary, dtype, trust_remote_code)
            _write_shards(temporary, shapes, dtype, iter(tensors), shard_bytes)
            # The manifest seals what engines load. The card is for people, and written again after each evaluation.
            manifest = {
                "iteration": iteration,
                "files": {file.name: files.digest_file(file) for file in sorted(temporary.iterdir())},
            }
            files.disk.write(temporary / "README.md", card.encode())
            data = json.dumps(manifest, indent=2).encode()
            files.disk.write(temporary / MANIFEST, data)
        withdraw(folder)  # left there by a publication whose files are damaged
        files.publish_folder(temporary, folder, last=MANIFEST)
    except Exception:
        files.discard(temporary)
        raise
    if remote(folder):
        files.remove(temporary)
    return Snapshot(iteration, str(folder), files.digest_bytes(data))


def torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _copy_base(base: str, folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    config.dtype = dtype
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    for part in (config, tokenizer, GenerationConfig.from_pretrained(base)):
        files.disk.fill(folder, part.save_pretrained)


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
        files.disk.fill(folder / file, partial(_save, shard))
    if len(shards) > 1:
        index: dict[str, Any] = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file for file, members in zip(names, shards, strict=True) for name in members},
        }
        files.disk.write(folder / "model.safetensors.index.json", json.dumps(index, indent=2).encode())


def _save(shard: dict[str, torch.Tensor], path: Path) -> None:
    try:
        save_file(shard, path, metadata={"format": "pt"})
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))  # its only trace of what the file system said
        if code is None:
            raise
        raise OSError(int(code[1]), str(error), str(path)) from error


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
