"""Names of models: a folder on this machine, or a name on the Hugging Face hub.

In: a name as a person writes it. Out: which of the two it is.
"""

import re
from pathlib import Path

OWNED = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")  # of a model or data set; old ones have no owner


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is `owner/name` of the hub and no folder here."""
    return OWNED.fullmatch(str(name)) is not None and not Path(name).exists()
