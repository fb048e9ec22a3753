"""Names of models: a folder on this machine, or a name on the Hugging Face hub.

In: a name as a person writes it. Out: which of the two it is.
"""

import re
from pathlib import Path

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is `owner/name` of the hub and no folder here."""
    return HUB_NAME.fullmatch(str(name)) is not None and not Path(name).exists()
