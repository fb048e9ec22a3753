"""What judges that are asked questions have used since a run began: a file per life of a ranker, so that nothing is lost with it.

In: counts of one ranker process, by the judge's section of the configuration. Out: those of all rankers together.
"""

import json
from collections import Counter
from pathlib import Path

from sppo_ray.run_folder import files

FOLDER = "judge-usage"


def write_usage(root: Path, life: str, usage: dict[str, dict[str, float]]) -> None:
    """life: the name of the ranker process, whose counts so far these are."""
    files.write_json(root / FOLDER / f"{life}.json", usage)


def read_usage(root: Path) -> dict[str, dict[str, float]]:
    total: dict[str, Counter[str]] = {}
    for path in (root / FOLDER).glob("*.json"):
        for judge, used in json.loads(files.read_bytes(path)).items():
            total.setdefault(judge, Counter()).update(used)
    return {judge: dict(used) for judge, used in total.items()}
