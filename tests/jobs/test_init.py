"""`sppo-ray init`: what it writes fits the machine, says why for every key, passes the check and runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import check, cli, init, sppo
from sppo_ray.config import keys, load_config
from sppo_ray.playground import Playground

JUDGE = ["--judge-kind", "python", "--judge", "tests.jobs.test_init:shorter"]


def shorter(prompt: str, responses: list[str]) -> list[float]:
    return [-float(len(response)) for response in responses]


@pytest.fixture
def named(tmp_path: Path, playground: Playground) -> list[str]:
    """A file to write, the playground's policy, 26 prompts."""
    prompts = tmp_path / "prompts.jsonl"
    rows = (playground.prompts / "held_out.jsonl").read_text().splitlines()[:26]
    prompts.write_text("".join(json.dumps({"prompt": json.loads(row)["prompt"]}) + "\n" for row in rows))
    return [str(tmp_path / "mine.yaml"), "--model", str(playground.policy), "--prompts", str(prompts), *JUDGE]


def written(file: str, capsys: pytest.CaptureFixture[str]) -> Any:
    lines = Path(file).read_text().splitlines()
    assert all("# " in line for line in lines if not line.endswith(":"))
    names = {key.split(".")[-1] for key, *_ in keys()}
    assert {
        line.strip().split(":")[0] for line in lines if not line.startswith("#") and not line.endswith(":")
    } <= names
    assert check.main(["--config", file, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.usefixtures("cluster")
def test_a_recipe_for_this_machine_passes_the_check_and_runs(
    named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["init", *named]) == 0
    found = written(named[0], capsys)
    assert (found["held_out"], found["iterations"]) == (2, [8, 8, 8])
    config = load_config(file=Path(named[0]))
    assert (config.recipe, config.training.batch_size, config.policy.attention) == ("mine", 1, "flex_attention")
    assert (config.generators.gpus, config.training.gpus, config.placement) == (0, 0, "disaggregated")
    shorten = ["iterations=1", "generation.max_new_tokens=8", "trackers=[]"]
    assert sppo.main(["--config", named[0], "--run-dir", str(tmp_path / "run"), *shorten]) == 0
    assert (tmp_path / "run" / "iter-1" / "policy" / "model.safetensors").exists()


def test_a_recipe_for_one_gpu_shares_it(named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert init.main([*named, "--gpus", "1", "--gpu-memory", "24"]) == 0
    capsys.readouterr()
    written(named[0], capsys)
    config = load_config(file=Path(named[0]))
    assert (config.placement, config.rankers.gpus) == ("colocated", 0)  # the judge needs none
    assert config.generators.gpus + config.training.gpus == pytest.approx(1)
    assert init.main([*named, "--gpus", "1"]) == 2
    assert "exists" in capsys.readouterr().err


def test_what_cannot_be_used_is_said_before_anything_is_written(
    named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert init.main([*named, "--gpus", "0", "--judge", "tests.jobs.test_init:nothing"]) == 2
    assert "tests.jobs.test_init:nothing" in capsys.readouterr().err
    assert not Path(named[0]).exists()
