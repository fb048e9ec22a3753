"""`jobs/plan.py --probe` on a real cluster with the playground's real engines."""

import json
from pathlib import Path

import pytest

from jobs import plan

pytestmark = pytest.mark.usefixtures("cluster", "playground")


def test_a_probe_puts_measured_rates_in_place_of_the_table_s(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPPO_RAY_RUNS", str(tmp_path))
    settings = ["block=4", "training.workers=1", "training.batch_size=2", "iterations=1", "prompts.limit=12"]
    assert plan.main(["--probe", "--json", "--gpus", "3", *settings]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    rates, work, seconds = found["rates"], found["work"], found["seconds"]
    assert rates["source"] == "measured by a probe"
    # A tiny policy on a shared CPU: far from nothing, and far from what the table says of a GPU.
    for stage, tokens in (("generate", "generated_tokens"), ("judge", "judged_tokens"), ("train", "trained_tokens")):
        assert 1 < rates[stage] < 1e6
        assert seconds[stage] >= work[tokens] / rates[stage] / 3 * 0.99
