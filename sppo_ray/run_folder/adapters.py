"""Adapter folders, in PEFT's format: a few matrices beside the model that they change.

In: a model folder, hub name or adapter folder. Out: the base model of an adapter, its checksum as engines hold it.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sppo_ray.run_folder.weight_sums import as_hex, tensor_sum

SETTINGS = "adapter_config.json"
WEIGHTS = "adapter_model"  # .safetensors
PREFIX = "base_model.model."  # of each tensor's name


def adapter_settings(model: str) -> dict[str, Any] | None:
    """PEFT's settings of an adapter folder; None for a model."""
    file = Path(model) / SETTINGS
    return json.loads(file.read_text("utf-8")) if file.is_file() else None


def adapter_rank(model: str) -> int:
    """The rank of an adapter folder; 0 for a model."""
    settings = adapter_settings(model)
    return 0 if settings is None else int(settings["r"])


def base_of(model: str) -> str:
    """The model that an adapter folder changes; a model is its own base."""
    settings = adapter_settings(model)
    return model if settings is None else str(settings["base_model_name_or_path"])


def read_adapter(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / f"{WEIGHTS}.safetensors")


def adapter_sum(folder: str, dtype: torch.dtype) -> str:
    """The checksum of an adapter as an engine of this dtype holds it, with its scale in B; that of a model without one is 0."""
    settings = adapter_settings(folder)
    if settings is None:
        return as_hex([])
    scale = settings["lora_alpha"] / settings["r"]
    sums = []
    for name, tensor in read_adapter(folder).items():
        held = tensor.to(dtype)
        sums.append(tensor_sum(held * scale if ".lora_B." in name else held))
    return as_hex(sums)
