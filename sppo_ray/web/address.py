"""Where a run's service answers, for the command line on the same machine: a file that its user alone can read.

In: address and token, as the run starts. Out: the same, until it ends.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_state_path

from sppo_ray.errors import ConfigError


@dataclass(frozen=True)
class Address:
    run: str
    url: str
    token: str

    def write(self) -> Path:
        folder = user_state_path("sppo-ray") / "services"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{self.run}.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        return path


def find_address(run: str | None) -> Address:
    """Of the run of that name, or of the one started last. Raises `ConfigError` where there is none."""
    found = (user_state_path("sppo-ray") / "services").glob("*.json")
    files = sorted((path for path in found if run in (None, path.stem)), key=lambda path: path.stat().st_mtime)
    if not files:
        raise ConfigError(
            f"no {'run' if run is None else f'run {run}'} of yours serves on this machine: give --url and --token "
            "(SPPO_RAY_URL, SPPO_RAY_TOKEN), as the run printed them at its start"
        )
    return Address(**json.loads(files[-1].read_text()))
