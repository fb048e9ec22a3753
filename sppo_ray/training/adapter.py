"""Low-rank adapters: the layers that are trained beside a frozen policy. The one module that touches PEFT.

In: a network, the adapter's settings, an adapter folder to go on from. Out: the network with trainable layers, and PEFT's settings;
or a plain model, the adapter merged into its base.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sppo_ray.config import Config, PolicySettings
from sppo_ray.errors import ConfigError, ModelError, one_line
from sppo_ray.run_folder.adapters import PREFIX, adapter_settings, base_of, read_adapter
from sppo_ray.run_folder.publishing import copy_base, torch_dtype

NAME = "default"  # of the adapter, within the names of its parameters


def check_targets(config: Config) -> None:
    """Raise `ConfigError` for targets that are no linear layers of the policy's model, which is built without its weights."""
    policy, targets = config.policy, config.training.adapter.targets
    if not config.training.adapter.rank or targets == "all-linear":
        return
    known = AutoConfig.from_pretrained(base_of(policy.model), trust_remote_code=policy.trust_remote_code)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(known, trust_remote_code=policy.trust_remote_code)
    linear = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in linear):
            there = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"training.adapter.targets: {policy.model} has no linear layer {target!r}: choose from {', '.join(there)}"
            )


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


def write_merged(adapter: str, folder: Path, policy: PolicySettings) -> None:
    """Write the model that an adapter folder makes of its base, with the base's configuration and tokenizer.

    Raises `ModelError` if the base cannot be loaded.
    """
    from peft import PeftModel

    base, dtype = base_of(adapter), torch_dtype(policy.dtype)
    try:
        network: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, trust_remote_code=policy.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{base}, the adapter's base, cannot be loaded ({one_line(error)}): put it there again"
        ) from error
    PeftModel.from_pretrained(network, adapter).merge_and_unload().save_pretrained(folder)
    copy_base(base, folder, dtype, policy.trust_remote_code)


def adapter_name(parameter: str) -> str:
    """The name that a parameter of the adapter has in PEFT's files."""
    return PREFIX + parameter.replace(f".{NAME}.", ".")
