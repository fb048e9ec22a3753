"""Nodes that join and leave while an iteration runs."""

import json
import subprocess
import sys
from pathlib import Path

from tests.cluster.nodes import PROMPTS


def test_a_node_that_joins_serves_and_one_that_leaves_takes_nothing_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.nodes", str(tmp_path)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(f"a generator of the new node was at work {result['seconds']:.1f} s after it joined")
    assert result["lost"] == ["generator-1"]
    assert result["elsewhere"] == []
    missing, (network,) = result["network"]
    assert missing == [] and "an all-reduce between them carries" in network
    assert result["judged"] == [prompt.prompt_id for prompt in PROMPTS]
