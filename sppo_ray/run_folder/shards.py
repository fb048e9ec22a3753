"""Safetensors files written as their tensors arrive: nothing but the tensor at hand is in memory, nothing is read back.

In: a stream of named tensors whose shapes are known before. Out: the file, and its SHA-256 digest.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

Named = tuple[str, torch.Tensor]

DTYPES = {torch.bfloat16: "BF16", torch.float32: "F32"}


def write_shard(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterator[Named],
    seconds: Counter[str],
) -> str:
    """Write a shard from as many tensors as `shapes` has, which come in its order; gives the file's digest.

    seconds: gets the time of `write` and of `digest` added, which run side by side.
    """
    sha = hashlib.sha256()
    with path.open("wb") as file, ThreadPoolExecutor(1) as thread:

        def put(data: bytes | memoryview) -> None:
            hashed = thread.submit(digest, data)
            with timed(seconds, "write"):
                file.write(data)
            hashed.result()

        def digest(data: bytes | memoryview) -> None:
            with timed(seconds, "digest"):
                sha.update(data)

        put(_header(shapes, dtype))
        for expected in shapes:
            name, tensor = next(tensors)
            assert (name, tuple(tensor.shape)) == (expected, shapes[expected]), (name, expected)
            put(tensor.to(dtype).contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()


def ahead(tensors: Iterator[Named], seconds: Counter[str]) -> Iterator[Named]:
    """The same tensors, each fetched while the one before it is in use. Adds the time of `gather`."""

    def fetch() -> Named | None:
        with timed(seconds, "gather"):
            return next(tensors, None)

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(fetch)
        while (item := coming.result()) is not None:
            coming = thread.submit(fetch)
            yield item


@contextmanager
def timed(seconds: Counter[str], part: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        seconds[part] += time.monotonic() - started  # type: ignore[assignment]


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """What precedes the data: https://github.com/huggingface/safetensors#format."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
