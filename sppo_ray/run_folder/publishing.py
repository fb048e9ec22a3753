"""Publishing a policy: a Hugging Face model folder that appears whole.

In: a stream of named tensors and the model whose configuration and tokenizer they keep. Out: a `Snapshot`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sppo_ray.records import Snapshot
from sppo_ray.run_folder import files
from sppo_ray.run_folder.adapters import SETTINGS, WEIGHTS
from sppo_ray.run_folder.kept import UpdateKept
from sppo_ray.run_folder.shards import ahead, timed, write_shard
from sppo_ray.run_folder.snapshots import MANIFEST, scratch, withdraw
from sppo_ray.run_folder.storage import remote, reporting
from sppo_ray.run_folder.weight_sums import WeightSum

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
    seconds: Counter[str] | None = None,
    adapter: dict[str, Any] | None = None,
    held: torch.dtype | None = None,
) -> Snapshot:
    """Write a model folder from a stream of tensors, holding two in memory, and give it its name at the end.

    shapes: of all tensors, in the order in which they come.  base: the model that they were trained from, whose
    configuration and tokenizer are kept.
    adapter: PEFT's settings, where the tensors are an adapter of the base; its folder is published instead.
    held: what trainer and engines round the weights to; dtype if not given.  card: the text of its README.md.  seconds: gets the time of gather, write and digest, which overlap.
    """
    seconds = Counter() if seconds is None else seconds
    weights, kept = WeightSum(held or dtype), UpdateKept(base, held or dtype, dtype)
    with scratch() if remote(folder) else _beside(folder) as temporary:
        with reporting(temporary):
            files.disk.make_folder(temporary)
            if adapter is None:
                copy_base(base, temporary, dtype, trust_remote_code)
                stem = "model"
            else:
                files.disk.write(temporary / SETTINGS, json.dumps(adapter, indent=2).encode())
                stem = WEIGHTS
            digests = _write_shards(
                temporary, stem, shapes, dtype, ahead(kept.over(weights.over(tensors)), seconds), shard_bytes, seconds
            )
            # The manifest seals what engines load. The card is for people, and written again after each evaluation.
            others = [file for file in sorted(temporary.iterdir()) if file.name not in digests]
            share = kept.share()
            manifest = {
                "iteration": iteration,
                "weights": weights.hex(),
                "kept": asdict(share) if share else None,
                "files": digests | {file.name: files.digest_file(file) for file in others},
            }
            files.disk.write(temporary / "README.md", card.encode())
            data = json.dumps(manifest, indent=2).encode()
            files.disk.write(temporary / MANIFEST, data)
        withdraw(folder)  # left there by a publication whose files are damaged
        with timed(seconds, "write"):
            files.publish_folder(temporary, folder, last=MANIFEST)
    return Snapshot(iteration, str(folder), files.digest_bytes(data))


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """The name of a folder in the making, which is removed if that fails."""
    temporary = files.temporary_name(folder)
    try:
        yield temporary
    except Exception:
        files.discard(temporary)
        raise


def torch_dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def copy_base(base: str, folder: Path, dtype: torch.dtype, trust_remote_code: bool) -> None:
    """Write what a policy keeps of its base: configuration, tokenizer and, if the base has one, generation config."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(base, trust_remote_code=trust_remote_code)
    config.dtype = dtype
    files.disk.fill(folder, config.save_pretrained)
    tokenizer: Any = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
    # Several templates would go to a folder of their own; tokenizer_config.json holds them, too.
    in_a_file = not isinstance(tokenizer.chat_template, dict)
    files.disk.fill(folder, partial(tokenizer.save_pretrained, save_jinja_files=in_a_file))
    generation = generation_config(base)
    if generation is not None:
        files.disk.fill(folder, generation.save_pretrained)


def generation_config(model: str) -> Any:
    """The generation config of a model folder or hub name; None for a model without the file."""
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME, cached_file

    if cached_file(model, GENERATION_CONFIG_NAME, _raise_exceptions_for_missing_entries=False) is None:
        return None
    return GenerationConfig.from_pretrained(model)


def _write_shards(
    folder: Path,
    stem: str,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterator[tuple[str, torch.Tensor]],
    shard_bytes: int,
    seconds: Counter[str],
) -> dict[str, str]:
    """Gives the digest of each shard by its name."""
    sizes = {name: torch.Size(shape).numel() * dtype.itemsize for name, shape in shapes.items()}
    shards = _plan(sizes, shard_bytes)
    if len(shards) == 1:
        names = [f"{stem}.safetensors"]
    else:
        names = [f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    digests: dict[str, str] = {}
    for file, members in zip(names, shards, strict=True):
        part = {name: shapes[name] for name in members}

        def save(path: Path, part: dict[str, tuple[int, ...]] = part) -> None:
            digests[path.name] = write_shard(path, part, dtype, tensors, seconds)

        files.disk.fill(folder / file, save)
    if len(shards) > 1:
        index: dict[str, Any] = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file for file, members in zip(names, shards, strict=True) for name in members},
        }
        files.disk.write(folder / f"{stem}.safetensors.index.json", json.dumps(index, indent=2).encode())
    return digests


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
