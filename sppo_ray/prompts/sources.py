"""Tables of prompts wherever they lie: a file, a folder of files, a saved data set, a data set of the hub.

In: a source's name, the split and the configuration ("subset") wanted. Out: a `Table`. `datasets` finds the files,
splits and configurations of folders; the files themselves are read here, where a bad row can be named by its line.
"""

import glob
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import datasets

from sppo_ray.errors import PromptError
from sppo_ray.models import HUB_NAME
from sppo_ray.prompts.files import READERS, Table, attempt, is_readable, join_tables, plain, read_file
from sppo_ray.prompts.rows import Row

datasets.disable_progress_bars()
logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)  # it warns of a folder without a README.md

SHARD = re.compile(r"(?P<name>.+?)[-._]\d{5}-of-(?P<total>\d{5})(?!\d)")
ABOUT = ("dataset_info.json", "dataset_infos.json", "config.json", "state.json")  # files that describe a data set


def is_hub_name(source: str) -> bool:
    """Whether a source, which is no file or folder here, is the name of a data set on the hub."""
    path = Path(source).expanduser()
    return not path.exists() and not is_readable(path) and HUB_NAME.fullmatch(source) is not None


def open_table(source: str, split: str | None = None, subset: str | None = None) -> Table:
    """The table of a source. A split names a part of a data set or, in a plain folder, a file without its extension."""
    path = Path(source).expanduser()
    if path.is_file():
        _refuse(source, "is one file and has no", split=split, subset=subset)
        return read_file(path)
    if path.is_dir():
        return _folder(path.resolve(), split, subset)  # as `datasets` does with the folders that it looks into
    if not is_hub_name(source):
        raise PromptError(f"{source}: no such file or folder: correct prompts.source")
    return _hub(source, split, subset)


def _folder(path: Path, split: str | None, subset: str | None) -> Table:
    if (path / "dataset_dict.json").is_file():
        _refuse(str(path), "is a saved data set and has no", subset=subset)
        about = (path / "dataset_dict.json").read_bytes()
        splits = attempt(
            f"{path}: its split names cannot be read", "save it again", lambda: json.loads(about)["splits"]
        )
        return _saved(path / _choose(str(path), splits, split))
    if (path / "state.json").is_file():
        _refuse(str(path), "holds one data set and has no", split=split, subset=subset)
        return _saved(path)
    files = _data_files(path)
    if not files:
        raise PromptError(
            f"{path} holds neither a data set saved by `save_to_disk` nor files ending in {', '.join(READERS)}: "
            "correct prompts.source"
        )
    named: dict[str, list[Path]] = {}
    for file in files:
        if file.parent == path:
            shard = SHARD.match(file.name)
            named.setdefault(shard["name"] if shard else plain(file).stem, []).append(file)
    if subset is None and split in named:
        return _join(path, named[split])
    if subset is None and split is None and len(files) == 1:
        return _join(path, files)
    found = _found(path, subset)
    if split in found:
        return _join(path, found[split])
    together = set(chain(*found.values()))
    if split is None and len(found) == 1 and together.issuperset(chain(*named.values())):
        return _join(path, list(together))
    # Several files that `datasets` takes for one split, as train_iteration_1 and _2, are offered by their own names.
    whole = {name: own for name, own in found.items() if not set(own) <= set(chain(*named.values()))}
    options = whole | named if subset is None else found
    return _join(path, options[_choose(str(path), options, split)])


def _data_files(path: Path) -> list[Path]:
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and is_readable(file)
        and file.name not in ABOUT
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]


def _found(path: Path, subset: str | None) -> dict[str, list[Path]]:
    """The files of each split as `datasets` finds them: by the folder's README.md, by shard names, by words in names."""
    if glob.escape(str(path)) != str(path):
        raise PromptError(f"{path}: `datasets` takes *, ? and [ in a path for patterns: rename the folder")
    builder = attempt(
        f"{path} cannot be read as one data set",
        "set prompts.subset or prompts.split, or name one of its files as prompts.source",
        lambda: datasets.load_dataset_builder(str(path), subset),
    )
    files = builder.config.data_files or {}
    return {str(split): [Path(file) for file in own] for split, own in files.items()}


def _join(path: Path, files: list[Path]) -> Table:
    shards = [shard for shard in (SHARD.match(str(file)) for file in files) if shard]
    for (name, total), there in Counter((shard["name"], int(shard["total"])) for shard in shards).items():
        if there != total:
            raise PromptError(f"{name}-*: {there} of {total} files are there: copy all of them")
    if len(files) == 1:
        return read_file(files[0])
    return join_tables(str(path), {str(file.relative_to(path)): read_file(file) for file in sorted(files)})


def _saved(path: Path) -> Table:
    return _dataset(
        str(path),
        attempt(f"{path}: its data set cannot be read", "save it again", lambda: datasets.load_from_disk(path)),
    )


def _hub(name: str, split: str | None, subset: str | None) -> Table:
    """The download shows its progress; a network that cannot be reached is tried for half a minute."""
    problem = f"{name} is neither a file or folder here nor can it be read from the hub"
    remedy = "correct prompts.source or prompts.subset, or save the data set with `save_to_disk` and name its folder"
    which = (name,) if subset is None else (name, subset)
    chosen = _choose(name, attempt(problem, remedy, lambda: datasets.get_dataset_split_names(*which)), split)
    dataset = attempt(problem, remedy, lambda: datasets.load_dataset(*which, split=chosen))
    return _dataset(f"{name}, split {chosen}", dataset)


def _dataset(where: str, dataset: datasets.Dataset) -> Table:
    def rows(columns: Sequence[str]) -> Iterator[tuple[str, Row]]:
        return ((f"row {number}", row) for number, row in enumerate(dataset.select_columns(list(columns)), 1))

    return Table(where, dataset.column_names, rows)


def _choose(where: str, splits: Iterable[str], split: str | None) -> str:
    names = sorted(splits)
    if split is None and len(names) == 1:
        return names[0]
    if split not in names:
        wanted = "needs prompts.split" if split is None else f"has no split {split!r}"
        raise PromptError(
            f"{where} {wanted}: it has {', '.join(names)}; set prompts.split to one of them, "
            "or lower iterations where {iteration} counts beyond them"
        )
    return split


def _refuse(source: str, what: str, **keys: str | None) -> None:
    for key, value in keys.items():
        if value is not None:
            raise PromptError(f"{source} {what} {key} {value!r}: leave prompts.{key} out")
