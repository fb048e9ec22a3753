"""The float32 weights that an iteration ends with, from which the next one goes on: a safetensors file for each train worker.

In: each worker's part of every tensor, flat, as ZeRO-3 cuts them. Out: any range of a tensor, for any number of workers.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from sppo_ray.run_folder import files
from sppo_ray.run_folder.shards import write_shard
from sppo_ray.run_folder.snapshots import scratch
from sppo_ray.run_folder.storage import remote, reporting

Read = Callable[[str, int, int], Tensor]


def write_part(
    folder: Path, worker: int, workers: int, sizes: dict[str, int], parts: Iterator[tuple[str, Tensor]]
) -> None:
    """Write a worker's part of the weights.  sizes: elements of each, in the order in which they come."""
    name = f"{worker:05d}-of-{workers:05d}.safetensors"
    shapes: dict[str, tuple[int, ...]] = {name: (size,) for name, size in sizes.items()}

    def save(path: Path) -> None:
        write_shard(path, shapes, torch.float32, parts, Counter())

    with reporting(folder):
        if remote(folder):
            with scratch() as temporary:
                save(temporary / name)
                files.persistently(folder / name, partial(files.disk.upload, temporary / name, folder / name))
        else:
            files.disk.make_folder(folder)
            files.disk.fill(folder / name, save)
            files.disk.sync(folder / name)


@contextmanager
def reading(folder: Path, worker: int, workers: int) -> Iterator[Read]:
    """Gives `read(name, start, stop)`: elements of a tensor, flat, among those that this worker of so many has."""
    paths = dict(enumerate(sorted(folder.glob("*.safetensors"))))
    if len(paths) == workers:
        paths = {worker: paths[worker]}
    with ExitStack() as stack:
        if remote(folder):
            temporary = stack.enter_context(scratch())
            for number, path in paths.items():
                files.persistently(path, partial(files.disk.download, path, temporary / path.name))
                paths[number] = temporary / path.name
        parts = {number: stack.enter_context(safe_open(path, "pt")) for number, path in paths.items()}

        def read(name: str, start: int, stop: int) -> Tensor:
            found = [torch.empty(0)]
            for number, part in parts.items():
                values = part.get_slice(name)
                size = values.get_shape()[0]
                first, last = max(start - number * size, 0), min(stop - number * size, size)
                if first < last:
                    found.append(values[first:last])
            return torch.cat(found)

        yield read
