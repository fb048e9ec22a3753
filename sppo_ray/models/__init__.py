"""What is known of a model without loading it: whether its name is of the hub, its shape.

In: a folder or a hub name. Out: a `Shape` from its config.json or a table; parameters, memory and arithmetic follow from it.
"""

from sppo_ray.models.names import HUB_NAME, is_hub_name
from sppo_ray.models.shapes import NAMED, Shape, from_config, model_shape

__all__ = ["HUB_NAME", "NAMED", "Shape", "from_config", "is_hub_name", "model_shape"]
