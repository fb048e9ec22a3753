"""A random adapter, published as a run publishes its own."""

from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

from sppo_ray.records import Snapshot
from sppo_ray.run_folder.publishing import publish
from tests.sampling.mismatch import network_of


def published_adapter(base: str, folder: Path, number: int) -> Snapshot:
    """number: of the iteration, and the seed of the adapter's weights."""
    torch.manual_seed(number)
    settings = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    network = get_peft_model(network_of(base), settings, autocast_adapter_dtype=False)
    tensors = {name: 0.5 * tensor.detach() for name, tensor in get_peft_model_state_dict(network).items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    written = settings.to_dict() | {"base_model_name_or_path": base, "target_modules": sorted(settings.target_modules)}  # type: ignore[arg-type]
    return publish(folder, number, shapes, torch.bfloat16, tensors.items(), base, "", adapter=written)
