"""Model cards: what the hub reads, the table of iterations, and nothing of the machine."""

import re

import yaml

from sppo_ray.config import load_config
from sppo_ray.reporting.cards import model_card, shown_name, write_cards
from tests.run_folders import run_folder

CONFIG = load_config(
    "playground",
    overrides=[
        "policy.model=google/gemma-2-9b-it",
        "judge.model=llm-blender/PairRM",
        "prompts.source=openbmb/UltraFeedback",
        "training.learning_rate=5e-7",
        "training.eta=1000",
    ],
)


def report(iteration: int, rate: float, **diagnostics):
    rates = {f"win_rate_vs_{name}": rate for name in ("base", "previous")}
    intervals = {f"{name}_interval": [rate - 0.05, rate + 0.05] for name in rates}
    return {
        "iteration": iteration,
        **rates,
        **intervals,
        "mean_response_tokens": 12.0 + iteration,
        "diagnostics": diagnostics,
    }


def test_front_matter_is_what_the_hub_reads():
    card = model_card(CONFIG, 1, [])
    assert card.startswith("---\n")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "text-generation"
    assert front["base_model"] == "google/gemma-2-9b-it"
    assert front["datasets"] == ["openbmb/UltraFeedback"]
    assert "sppo" in front["tags"]


def test_hyperparameters_are_those_of_the_run():
    card = model_card(CONFIG, 1, [])
    assert "| learning_rate | 5e-07 |" in card
    assert "| eta | 1000 |" in card
    assert "| lr_scheduler_warmup_ratio | 0.1 |" in card
    assert "| optimizer | RMSProp (alpha 0.99, eps 1e-08, weight decay 0) |" in card
    assert "| judge | llm-blender/PairRM (PairRM, all ordered pairs, by llm-blender) |" in card


def test_judge_loss_and_optimizer_describe_themselves():
    changed = ["judge.kind=python", "judge.model=math:fsum", "training.loss=ipo", "training.optimizer=adamw"]
    card = model_card(load_config(overrides=changed), 1, [])
    assert "compared by the judge `math:fsum`" in card
    assert "| judge | math:fsum (a Python function) |" in card
    assert "| loss | ipo |" in card
    assert "| optimizer | AdamW (betas 0.9, 0.999, eps 1e-08, weight decay 0) |" in card


def test_iterations_link_to_each_other_and_show_their_win_rates():
    card = model_card(CONFIG, 2, [report(1, 0.65), report(2, 0.75), report(3, 0.8)])
    assert (
        "- [Iteration 1](../../iter-1/policy)\n- Iteration 2 (this model)\n- [Iteration 3](../../iter-3/policy)" in card
    )
    assert "| 1 | 65.00 (60.0 to 70.0) | – | 65.00 (60.0 to 70.0) | 13.0 tokens |" in card
    assert "| **2** | 75.00 (70.0 to 80.0) | – | 75.00 (70.0 to 80.0) | 14.0 tokens |" in card


def test_a_policy_that_is_not_evaluated_yet_says_so():
    assert "| **2** | not evaluated yet |" in model_card(CONFIG, 2, [report(1, 0.65)])


def test_warnings_are_on_the_card_of_their_iteration_with_markup_escaped():
    reports = [report(1, 0.65, warnings=["all say '<script>`x`'"]), report(2, 0.7, warnings=[])]
    assert "- all say '&lt;script&gt;&#96;x&#96;'" in model_card(CONFIG, 1, reports)
    assert "Warnings" not in model_card(CONFIG, 2, reports)


def test_folders_of_the_machine_are_not_named(tmp_path):
    assert shown_name(str(tmp_path / "my-model")) == "my-model"
    config = load_config(
        "playground", overrides=[f"policy.model={tmp_path}/my-model", f"prompts.source={tmp_path}/x.jsonl"]
    )
    card = model_card(config, 1, [])
    assert str(tmp_path) not in card
    assert not re.search(r"datasets:", card)


def test_cards_are_written_into_the_published_policies(tmp_path):
    ledger = run_folder(tmp_path / "run", ["a b", "c"])
    write_cards(ledger)
    text = (ledger.iteration(1) / "policy" / "README.md").read_text()
    assert "| **1** | 75.00 (70.0 to 80.0) |" in text
    assert not (ledger.iteration(2) / "policy").exists()


def test_a_card_shows_the_judge_of_the_evaluation_beside_the_one_that_trains():
    config = load_config(
        overrides=[
            "judge.model=llm-blender/PairRM",
            "evaluation.judge.kind=reward",
            "evaluation.judge.model=owner/reward",
        ]
    )
    both = {"training_judge_win_rate_vs_base": 0.8, "training_judge_win_rate_vs_base_interval": [0.7, 0.9]}
    both |= {"lc_win_rate_vs_base": 0.5, "lc_win_rate_vs_base_interval": [0.4, 0.6]}
    card = model_card(config, 1, [report(1, 0.6) | both])
    assert "| judge of the evaluation | owner/reward (a reward model that scores each response) |" in card
    assert "Win rates are those of [owner/reward](https://huggingface.co/owner/reward), which did not train" in card
    assert (
        "| **1** | 60.00 (55.0 to 65.0) | 50.00 (40.0 to 60.0) | 60.00 (55.0 to 65.0) | 13.0 tokens | 80.00 (70.0 to 90.0) |"
        in card
    )
    assert "not evaluated yet |  |  |  |" in model_card(config, 2, [report(1, 0.6) | both])
