"""Published policies, as readers see them: folders that a manifest vouches for.

In: a folder. Out: the `Snapshot` in it, verified on request.
"""

import json
from pathlib import Path

from sppo_ray import files
from sppo_ray.errors import DamagedFile
from sppo_ray.records import Snapshot

MANIFEST = "manifest.json"


def read_snapshot(folder: Path, iteration: int) -> Snapshot | None:
    """The snapshot in a folder, or None where none was published."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return None
    return Snapshot(iteration, str(folder), files.digest_bytes(manifest.read_bytes()))


def verify(snapshot: Snapshot) -> None:
    """Raise `DamagedFile` unless every file of a published snapshot has the digest that its manifest gives."""
    folder = Path(snapshot.uri)
    data = (folder / MANIFEST).read_bytes()
    if files.digest_bytes(data) != snapshot.digest:
        raise DamagedFile(f"{folder / MANIFEST} is not the manifest that was published")
    for name, digest in json.loads(data)["files"].items():
        if not (folder / name).exists() or files.digest_file(folder / name) != digest:
            raise DamagedFile(f"{folder / name} does not match its digest in {MANIFEST}")
