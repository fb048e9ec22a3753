"""The files of a PairRM checkpoint, checked by reading JSON only, so that a run refuses a bad one at once.

In: a folder, or a hub name (`owner/name`). Out: its `Settings`, or a `ModelError` that names folder, file and remedy.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sppo_ray.errors import ModelError
from sppo_ray.models import is_hub_name

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first one found is read
FORMAT = "a PairRM checkpoint is a folder with config.json (ranker_type, model_type, model_name) and model.safetensors"


@dataclass(frozen=True)
class Settings:
    """A checkpoint on this machine. base: folder or hub name of the DeBERTa's configuration and tokenizer."""

    weights: Path
    base: str
    source_max_length: int
    candidate_max_length: int
    raw: dict[str, Any]


def check_checkpoint(checkpoint: str | Path) -> None:
    """Raise `ModelError` for a folder that is not a PairRM checkpoint; a hub name passes, only a download would tell."""
    if not is_hub_name(checkpoint):
        read_settings(Path(checkpoint))


def local_settings(checkpoint: str | Path) -> Settings:
    """The settings of a checkpoint; one on the hub is downloaded first, unless it is in the hub's cache."""
    if not is_hub_name(checkpoint):
        return read_settings(Path(checkpoint))
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(str(checkpoint), allow_patterns=["config.json", *WEIGHTS])
    except (OSError, ValueError) as error:
        raise ModelError(
            f"judge {checkpoint} is not a folder and cannot be downloaded: {error}; download it where the hub can be "
            "reached and give its folder"
        ) from error
    return read_settings(Path(folder))


def read_settings(folder: Path) -> Settings:
    """The settings of a checkpoint's folder."""
    if not folder.is_dir():
        kind = "a file, not a folder" if folder.exists() else "missing"
        raise ModelError(f"judge {folder} is {kind}: give a folder or a hub name such as llm-blender/PairRM; {FORMAT}")
    raw = _read_json(folder / "config.json", f"judge {folder}", FORMAT)
    if raw.get("ranker_type") != "pairranker" or raw.get("model_type") != "deberta":
        raise ModelError(
            f"judge {folder}: config.json has ranker_type {raw.get('ranker_type')!r} and model_type "
            f"{raw.get('model_type')!r}; PairRM has 'pairranker' and 'deberta': give a PairRM checkpoint"
        )
    lengths = [raw.get(key) for key in ("source_maxlength", "candidate_maxlength")]
    if not all(isinstance(length, int) and length > 2 for length in lengths):
        raise ModelError(
            f"judge {folder}: config.json has source_maxlength {lengths[0]!r} and candidate_maxlength {lengths[1]!r}; "
            "both are numbers of tokens above 2: write 1224 and 412, PairRM's own, if unsure"
        )
    weights = [folder / name for name in WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise ModelError(
            f"judge {folder} has no weights, neither {' nor '.join(WEIGHTS)}: copy the file there; {FORMAT}"
        )
    base = _find_base(folder, raw.get("model_name"))
    return Settings(weights[0], base, raw["source_maxlength"], raw["candidate_maxlength"], raw)


def _find_base(folder: Path, name: Any) -> str:
    where = f"judge {folder}: config.json has model_name {name!r}"
    remedy = "set model_name to the folder, or hub name, of its DeBERTa's config.json and tokenizer"
    if not isinstance(name, str) or not name:
        raise ModelError(f"{where}: {remedy}")
    for base in (Path(name), folder / name):
        if base.is_dir():
            config = _read_json(base / "config.json", where, remedy)
            if config.get("model_type") != "deberta-v2":
                raise ModelError(
                    f"{where}, whose model_type is {config.get('model_type')!r}, not 'deberta-v2': {remedy}"
                )
            return str(base)
    if not is_hub_name(name):
        raise ModelError(f"{where}, a folder that does not exist: {remedy}")
    return name


def _read_json(file: Path, where: str, remedy: str) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{where}: {file} is missing: {remedy}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{where}: {file} cannot be read ({error}): {remedy}") from None
    if not isinstance(tree, dict):
        raise ModelError(f"{where}: {file} is not a JSON object: {remedy}")
    return tree
