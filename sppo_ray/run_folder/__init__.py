"""The run folder on a disk or an object store: blocks of records, reports, published policies, and who may write.

In: records, reports, weights. Out: the same, verified by digest; a damaged file is renamed and computed again.
`adapters`, `files`, `masters`, `publishing` and `weight_sums` (which load torch) are imported as modules.
"""

from sppo_ray.run_folder import files
from sppo_ray.run_folder.judge_usage import read_usage, write_usage
from sppo_ray.run_folder.ledger import HELD_OUT, Ledger
from sppo_ray.run_folder.snapshots import copy_snapshot, local, scratch
from sppo_ray.run_folder.storage import location, remote, reporting

__all__ = [
    "HELD_OUT",
    "Ledger",
    "adapters",
    "copy_snapshot",
    "files",
    "local",
    "location",
    "masters",
    "publishing",
    "read_usage",
    "remote",
    "reporting",
    "scratch",
    "weight_sums",
    "write_usage",
]
