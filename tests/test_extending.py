"""docs/extending.md, run as it is written: each section's blocks, from outside the package, and then in a run's own processes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from sppo_ray.config import load_config
from sppo_ray.training.logprobs import Scorer, token_logprobs
from tests import ROOT
from tests.conftest import free_port

PAGE = (ROOT / "docs/extending.md").read_text("utf-8")
SECTIONS = ["A judge", "A loss", "An optimizer", "A model family"]


def blocks(section: str, language: str) -> list[str]:
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    assert found
    return found


def run(folder: Path, code: str, **environment: str) -> str:
    """Run code in a process started from a folder outside the package, which -P keeps off the path, as for `sppo-ray`."""
    program = folder / "program.py"
    program.write_text(code)
    process = subprocess.run(
        [sys.executable, "-P", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return process.stdout


def write_files(section: str, folder: Path) -> list[str]:
    """The section's blocks that are files, written; the code of the others is returned."""
    code = []
    for block in blocks(section, "python"):
        name = re.match(r"# (\w+\.py)\n", block)
        if name:
            (folder / name[1]).write_text(block)
        else:
            code.append(block)
    return code


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_of_the_page_runs(section: str, tmp_path: Path) -> None:
    code = write_files(section, tmp_path)
    assert any("assert" in block for block in code)
    run(tmp_path, "\n".join(code))


@pytest.mark.usefixtures("playground")
def test_the_commands_of_the_page_pass_the_checks_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("please thanks")
    commands = []
    for section in SECTIONS[:3]:
        write_files(section, tmp_path)
        for command in blocks(section, "shell"):
            start, *overrides = command.replace("/data/words.txt", str(tmp_path / "words.txt")).split(" ")[1:]
            assert start == "run"
            commands.append([word.strip() for word in overrides])
    run(
        tmp_path,
        "from sppo_ray.config import load_config; from sppo_ray.preparation import prepare\n"
        f"for overrides in {commands}: prepare(load_config(overrides=overrides))",
    )


def test_judges_from_outside_judge_in_the_pool_of_a_run(tmp_path: Path) -> None:
    """The pool's processes import the module from the folder that the command was started in."""
    write_files("A judge", tmp_path)
    (tmp_path / "words.txt").write_text("please thanks")
    code = f"""
import json
from pathlib import Path
import ray
from actors.service.answering import compare
from sppo_ray.config import load_config

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
for kind, model in (("python", "my_scores:brevity"), ("keyword_judge:KeywordKind", {str(tmp_path / "words.txt")!r})):
    config = load_config(overrides=["judge.kind=" + kind, "judge.model=" + model])
    print(json.dumps(compare(config, ["p", "q"], [["please", "no thanks, please"], ["so it is", ""]], Path(kind[:3])).tolist()))
"""
    brevity, keywords = map(json.loads, run(tmp_path, code).splitlines()[-2:])
    # Scores of brevity: -0.1 and -0.3; -0.3 and 0. Keywords: 1 and 2; 0 and 0. Half of the difference each.
    assert brevity == [
        [[0.0, pytest.approx(0.1)], [pytest.approx(-0.1), 0.0]],
        [[0.0, pytest.approx(-0.15)], [pytest.approx(0.15), 0.0]],
    ]
    assert keywords == [[[0.0, -0.5], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]


STEP = """
import json, torch, torch.distributed
torch.distributed.init_process_group("gloo")
from sppo_ray.config import load_config
from sppo_ray.records import Pair, Response
from sppo_ray.training.policy import TrainablePolicy

config = load_config(overrides=OVERRIDES)
policy = TrainablePolicy(config, "model", 5, torch.device("cpu"))
before = {name: weight.clone() for name, weight in policy.gather()}
pairs = [
    Pair(f"p{n}", [1, 2], Response([3, 4, 5], [0.0] * 3, w), Response([6, 7], [0.0] * 2, v))
    for n, (w, v) in enumerate([(0.75, 0.25), (1.0, 0.0)])
]
numbers = policy.step(policy.recompute(pairs))
moved = sum(float(((weight - before[name]) ** 2).sum()) for name, weight in policy.gather()) ** 0.5
print(json.dumps({"loss": numbers.loss, "moved": moved}))
"""


def test_a_policy_trains_on_the_loss_and_the_optimizer_of_the_page(tmp_path: Path) -> None:
    write_files("A loss", tmp_path)
    write_files("An optimizer", tmp_path)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=32, **sizes)).save_pretrained(tmp_path / "model")
    overrides = ["policy.dtype=float32", "training.loss=my_loss:hinge", "training.optimizer=my_optimizer:sgd"]
    overrides += [
        "training.eta=4",
        "training.learning_rate=0.01",
        "training.warmup_ratio=0",
        "training.max_grad_norm=0.5",
    ]
    overrides += ["training.workers=1", "training.batch_size=2"]
    alone = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    step = json.loads(run(tmp_path, STEP.replace("OVERRIDES", repr(overrides)), **alone).splitlines()[-1])
    # The policy is its own reference: log-ratios 0, so the losses are (4 x 0.5)^2 and (4 x 1)^2.
    assert step["loss"] == pytest.approx((4 + 16) / 2)
    # Plain SGD's first step: the learning rate times the gradient, whose norm was clipped to 0.5.
    assert step["moved"] == pytest.approx(0.01 * 0.5, rel=1e-3)


def test_a_family_that_scales_its_logits_is_told_apart_by_the_check_of_the_page() -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    token_ids = torch.arange(8).reshape(1, 8)
    scored = torch.ones_like(token_ids).bool()
    scored[:, 0] = False
    for scaling, same in ((1.0, True), (8.0, False)):
        torch.manual_seed(0)
        network = GraniteForCausalLM(
            GraniteConfig(vocab_size=32, logits_scaling=scaling, initializer_range=1.0, **sizes)
        )
        found = Scorer(network)(token_ids, torch.ones_like(token_ids), scored)
        assert torch.allclose(found, token_logprobs(network(token_ids).logits, token_ids), atol=1e-4) is same


def test_a_run_folder_can_be_read_without_the_module_of_its_loss() -> None:
    assert load_config(overrides=["training.loss=not_here:loss"]).training.loss == "not_here:loss"
