"""Colocated roles on real Ray: one engine and one train worker on each GPU."""

import json
import subprocess
import sys


def test_each_gpu_gets_one_engine_and_one_train_worker() -> None:
    command = [sys.executable, "-m", "tests.cluster.colocated"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    engines, workers = ({(node, gpu) for node, [gpu] in result[role]} for role in ("engines", "workers"))
    assert len(result["engines"]) == len(result["workers"]) == 4
    assert len(engines) == 4 and workers == engines
    assert result["room"] == {"generators": 3, "rankers": 1}
