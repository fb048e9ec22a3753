"""Where a run's service answers, for the command line on the same machine: a file that only its user can read.

In: address and token, when the run starts. Out: the same, until it ends.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from platformdirs import user_state_path

from sppo_ray.errors import ConfigError


@dataclass(frozen=True)
class Address:
    """root: the run folder in full, a path or a URI."""

    root: str
    url: str
    token: str

    @property
    def run(self) -> str:
        return self.root.rpartition("/")[2]

    def write(self) -> Path:
        """One file per run folder: runs of one name in different places do not overwrite each other's."""
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(self.root.encode()).hexdigest()[:16]}.json"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=1)
        return path


def find_address(run: str | None) -> Address:
    """The address of the run with that name or folder; None: of the run that started last. Raises `ConfigError`."""
    files = sorted(_folder().glob("*.json"), key=lambda path: path.stat().st_mtime)
    found = [Address(**json.loads(path.read_text())) for path in files]
    if run is not None:
        names = run, str(Path(run).expanduser().resolve())
        found = [address for address in found if address.run in names or address.root in names]
    if not found:
        raise ConfigError(
            f"no {'run' if run is None else f'run {run}'} of yours serves on this machine: use --url and --token "
            "(SPPO_RAY_URL, SPPO_RAY_TOKEN) with what stands in the file that the run's log names"
        )
    if run is not None and len(found) > 1:
        roots = ", ".join(address.root for address in found)
        raise ConfigError(f"{len(found)} runs are called {run}: use --run with the folder of one of them: {roots}")
    return found[-1]


def _folder() -> Path:
    return user_state_path("sppo-ray") / "addresses"
