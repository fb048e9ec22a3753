"""Layers compiled one by one by torch.compile: one graph serves all layers of a kind, at any number and length of rows.

In: a model. Out: its layers, whose forward passes are compiled when they are first called.
"""

from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from sppo_ray.errors import RunFailed


def compile_layers(network: Any) -> list[Any]:
    """Raises `RunFailed` for a model whose layers are not Transformers' own."""
    layers = [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise RunFailed(
            f"training.compile: {type(network).__name__} has none of Transformers' layers: submit the run again with "
            "training.compile=false"
        )
    # DeepSpeed reduces the gradients of a layer once those of its inputs are there, which an adapter's first layer has none of.
    network.enable_input_require_grads()
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    return layers
