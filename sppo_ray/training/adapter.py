"""Low-rank adapters: the layers that are trained beside a frozen policy. The one module that touches PEFT.

In: a network, the adapter's settings, an adapter folder to go on from. Out: the network with trainable layers, and PEFT's settings.
"""

from typing import Any

import torch

from sppo_ray.config import Config
from sppo_ray.errors import ModelError
from sppo_ray.run_folder.adapters import PREFIX, adapter_settings, read_adapter

NAME = "default"  # of the adapter, within the names of its parameters


def add_adapter(network: Any, config: Config, model: str) -> dict[str, Any]:
    """Freeze a network, give it an adapter, that of `model` if it is an adapter folder, and return PEFT's settings for a file.

    The layers change nothing at first (B is 0); A is drawn from the run's seed, alike on all workers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    adapter = config.training.adapter
    targets: Any = adapter.targets
    settings = LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # PEFT divides it by the rank, whole or not
        lora_dropout=adapter.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(config.seed)
    try:
        # No `PeftModel` around the network: the scorer calls it as it calls any other.
        inject_adapter_in_model(settings, network)
    except ValueError as error:
        raise ModelError(f"training.adapter.targets={adapter.targets}: {error}") from error
    dtype = getattr(torch, config.policy.dtype)
    trained = {adapter_name(name): p for name, p in network.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data = parameter.data.to(dtype)
    if adapter_settings(model) is not None:
        with torch.no_grad():
            for name, tensor in read_adapter(model).items():
                trained[name].copy_(tensor)
    return {key: sorted(value) if isinstance(value, set) else value for key, value in settings.to_dict().items()}


def adapter_name(parameter: str) -> str:
    """The name that a parameter of the adapter has in PEFT's files."""
    return PREFIX + parameter.replace(f".{NAME}.", ".")
