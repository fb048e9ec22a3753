"""What people asked of a run: paused or not, how many members each pool is to have. It outlives every process of the run.

In: requests. Out: `desired.json` in the run folder, from which a restarted coordinator asks the pools for the same.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sppo_ray.run_folder import files

FILE = "desired.json"


@dataclass
class DesiredState:
    """targets: members of a pool, by its name, where somebody asked for a number.  pause_reason: where the run paused by itself."""

    paused: bool = False
    pause_reason: str | None = None
    targets: dict[str, int] = field(default_factory=dict)


def read_desired(root: Path) -> DesiredState:
    """The state that was asked for last; the default where nobody asked for anything."""
    try:
        return DesiredState(**json.loads(files.read_bytes(root / FILE)))
    except FileNotFoundError:
        return DesiredState()


def write_desired(root: Path, state: DesiredState) -> None:
    files.write_json(root / FILE, asdict(state))
