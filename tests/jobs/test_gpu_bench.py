"""The script for a GPU runs on a machine without Ray and vLLM; its numbers mean nothing here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import gpu_bench
from tests import ROOT

BARE = "import sys; sys.modules.update(ray=None, vllm=None); from jobs import gpu_bench; gpu_bench.main()"


def test_it_measures_without_ray_and_vllm(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-c", BARE, "--tiny", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == f"0 of {len(gpu_bench.PARTS)} parts failed"
    found = json.loads(output.read_text())
    assert found["playground"]["left out"] == "ray and vllm not installed"
    assert found["sampling"]["left out"] == "vllm not installed"
    assert found["judge"]["ratio"] > 0 and found["training"]["tokens/s"] > 0
    assert found["rounding"]["float32 to a CPU, largest difference"] < 1e-4
    assert 0 < found["rounding"]["float16"]["mean difference"] < found["rounding"]["bfloat16"]["mean difference"]
    # On a CPU all are eager attention.
    assert found["training"]["first log-ratio"] == found["training_eager"]["first log-ratio"]
    assert found["training_compiled"]["first log-ratio"] == pytest.approx(
        found["training"]["first log-ratio"], rel=0.05
    )


def test_it_samples_beside_bare_vllm(tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    command = [sys.executable, "-m", "jobs.gpu_bench", "--parts", "sampling", "--tiny", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(output.read_text())["sampling"]
    rates = [found[f"{way}tokens/s"] for way in ("", "bare vLLM, ", "five passes, ")]
    assert (found["to bare vLLM"], found["to five passes"]) == (rates[0] / rates[1], rates[0] / rates[2])
    assert min(rates) > 0 and found["prompts with two equal responses"] == 0


def test_a_part_that_fails_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", ["gpu_bench", "--parts", "judge", "rounding", "--output", str(output)])
    monkeypatch.setitem(gpu_bench.PARTS, "judge", lambda *_: {"ratio": 1 / 0})
    monkeypatch.setitem(gpu_bench.PARTS, "rounding", lambda folder, tiny, device: {"device": device.type})
    with pytest.raises(SystemExit, match="1"):
        gpu_bench.main()
    found = json.loads(output.read_text())
    assert found["judge"]["error"] == "ZeroDivisionError: division by zero" and "device" in found["rounding"]
