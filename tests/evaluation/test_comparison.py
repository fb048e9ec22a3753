"""Win rates, ties, intervals and best-of-n by hand; what `jobs/evaluate.py` says of input that it cannot use."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs import evaluate
from sppo_ray.config import JudgeSettings, load_config
from sppo_ray.errors import ModelError, PromptError, RunFolderError
from sppo_ray.evaluation import against_first, align, best_of, duels, mean_characters, rule_wins, win_rate, wins
from sppo_ray.preparation.evaluation import EvaluationSetup, find_snapshot, held_out_prompts, stored_answers
from sppo_ray.records import Candidates, Prompt
from sppo_ray.run_folder import Ledger


def candidates(name: str, *responses: str) -> Candidates:
    ids = [[1]] * len(responses)
    return Candidates(name, f"{name}?", [1], list(responses), ids, [[-1.0]] * len(ids), ["stop"] * len(ids), "iter-0")


def test_a_duel_is_won_by_both_orders_together():
    """Wins 3 to -1 and 1 to 2 in favour of the first and the second; 2 and 2 is a tie."""
    logits = [[[0, 3], [-1, 0]], [[0, 1], [2, 0]], [[0, 2], [2, 0]]]
    np.testing.assert_array_equal(wins(logits), [1.0, 0.0, 0.5])


def test_win_rate_has_a_bootstrap_interval_around_its_mean():
    values = [1.0] * 60 + [0.0] * 40
    found = win_rate(values, seed=1)
    low, high = found["interval"]
    assert found["win_rate"] == pytest.approx(0.6)
    # The normal approximation: 1.96 x sqrt(0.6 x 0.4 / 100) = 0.096.
    assert low == pytest.approx(0.504, abs=0.02) and high == pytest.approx(0.696, abs=0.02)
    assert win_rate(values, seed=1) == found


def test_win_rate_of_nothing_but_ties():
    assert win_rate([0.5] * 10, seed=0) == {"win_rate": 0.5, "interval": [0.5, 0.5]}


def test_prompts_that_both_answered_are_compared():
    a, b = align([candidates("p", "1"), candidates("q", "2")], [candidates("q", "3"), candidates("r", "4")])
    assert ([row.responses for row in a], [row.responses for row in b]) == ([["2"]], [["3"]])


def test_duels_are_of_the_nth_answer_with_the_nth():
    prompts, answers = duels([candidates("p", "1", "2")], [candidates("p", "3", "4")])
    assert (prompts, answers) == (["p?", "p?"], [["1", "3"], ["2", "4"]])


def test_mean_characters():
    assert mean_characters([candidates("p", "ab", "\U0001f600"), candidates("q", "", "abc")]) == 1.5


def test_best_of_n_is_the_highest_win_rate():
    logits = np.zeros((2, 3, 3))
    logits[0, 2] = [4.0, 4.0, 0.0]  # the third wins on the left against both others
    chosen = best_of(logits, JudgeSettings(model="any"))
    np.testing.assert_array_equal(chosen, [2, 0])  # all even: the first
    np.testing.assert_array_equal(against_first(logits, chosen), [1.0, 0.5])


def test_rule_wins_leaves_out_prompts_that_the_rule_does_not_know():
    def rule(prompt: str, answer: str) -> float | None:
        return len(answer) if prompt == "p?" else None

    new = [candidates("p", "aa", "a"), candidates("q", "a", "a")]
    old = [candidates("p", "a", "a"), candidates("q", "a", "a")]
    assert rule_wins(rule, new, old) == 0.75
    assert rule_wins(lambda prompt, answer: None, new, old) is None


@pytest.fixture
def setup(tmp_path: Path) -> EvaluationSetup:
    """A run with one published policy, whose base answered both held-out prompts and whose first iteration only one."""
    config = load_config()
    ledger = Ledger(tmp_path / "run")
    ledger.claim(config, {})
    ledger.write_prompts(0, [Prompt("p", "p?", [1]), Prompt("q", "q?", [1])])
    answers = [candidates("p", "1", "2"), candidates("q", "3", "4")]
    for block, row in enumerate(answers):
        ledger.write([row], Candidates, ledger.block(Candidates, 0, block, "evaluation"))
    ledger.write(answers[:1], Candidates, ledger.block(Candidates, 1, 0, "evaluation"))
    (ledger.iteration(1) / "policy").mkdir()
    (ledger.iteration(1) / "policy/manifest.json").write_text("{}")
    return EvaluationSetup(config, ledger, None, stored=True)


def test_snapshots_by_name(setup, tmp_path):
    base = find_snapshot("base", setup)
    assert (base.iteration, base.uri) == (0, "playground")
    assert find_snapshot("1", setup).uri == str(tmp_path / "run/iter-1/policy")
    assert find_snapshot(str(tmp_path), setup).uri == str(tmp_path)
    assert find_snapshot("google/gemma-2-9b-it", setup).uri == "google/gemma-2-9b-it"


@pytest.mark.parametrize(
    "name, words, error",
    [
        ("2", ["iteration 2", "has those of 1"], RunFolderError),
        ("./nowhere/at/all", ["no such model", "base"], ModelError),
        ("latest", ["no such model"], ModelError),
    ],
)
def test_snapshots_that_are_not_there(setup, name, words, error):
    with pytest.raises(error) as raised:
        find_snapshot(name, setup)
    assert all(word in str(raised.value) for word in words)


def test_a_number_needs_a_run(setup):
    with pytest.raises(RunFolderError, match="--run-dir"):
        find_snapshot("1", EvaluationSetup(setup.config, None, None, stored=False))


def test_stored_answers_are_used_only_where_they_are_those_asked_for(setup, playground):
    policy = setup.config.policy.model_copy(update={"model": str(playground.policy)})
    setup = replace(setup, config=setup.config.model_copy(update={"policy": policy}))
    found = stored_answers(setup, "base", 2)
    assert found is not None and [row.prompt_id for row in found] == ["p", "q"]
    assert stored_answers(setup, "base", 3) is None  # other than were sampled
    assert stored_answers(setup, "1", 2) is None  # one prompt is missing
    assert stored_answers(setup, "google/gemma-2-9b-it", 2) is None
    assert stored_answers(EvaluationSetup(setup.config, setup.ledger, None, stored=False), "base", 2) is None


def test_held_out_prompts_of_a_configuration(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(f'{{"prompt": "Question {n}"}}\n' for n in range(20)))
    overrides = [f"prompts={{source: {file}}}", "evaluation={held_out: 4}"]
    found = held_out_prompts(load_config(overrides=overrides))
    assert len(found) == 4
    with pytest.raises(PromptError, match="--prompts"):
        held_out_prompts(load_config(overrides=[overrides[0], "evaluation={}"]))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["win-rate", "1", "base"], ["--run-dir", "--recipe"]),
        (["win-rate", "1", "base", "--run-dir", "nowhere"], ["nowhere is no run folder"]),
        (["win-rate", "1", "base", "--recipe", "playgruond"], ["playground"]),
        (["win-rate", "1", "base", "--recipe", "gemma-2-9b-it", "trainin.eta=1"], ["did you mean training"]),
        (["win-rate", "1", "base", "--recipe", "gemma-2-9b-it", "--judge", "./none"], ["judge none"]),
        (["best-of", "base", "--best-of", "1", "--recipe", "gemma-2-9b-it"], ["at least 2"]),
        (["alpaca", "./none.json", "--model", "base", "--recipe", "gemma-2-9b-it"], ["no such file"]),
    ],
)
def test_bad_input_ends_with_status_2(capsys, monkeypatch, arguments, words):
    monkeypatch.setattr(evaluate, "cluster", lambda setup: pytest.fail("the job went on to the cluster"))
    assert evaluate.main(arguments) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "arguments", [["win-rate", "1"], ["best-of", "base", "--best-of", "0"], ["summarize", "a", "b=1"]]
)
def test_bad_arguments_end_with_status_2(arguments):
    with pytest.raises(SystemExit) as raised:
        evaluate.main(arguments)
    assert raised.value.code == 2


def test_a_policy_that_is_missing_is_found_before_the_cluster_is_joined(setup, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "cluster", lambda setup: pytest.fail("the job went on to the cluster"))
    root = setup.ledger.root
    tree = yaml.safe_load((root / "config.yaml").read_text())
    tree["config"]["judge"]["model"], tree["config"]["policy"]["model"] = "llm-blender/PairRM", "google/gemma-2-9b-it"
    tree["config"]["prompts"]["source"], tree["config"]["evaluation"]["prompts"] = "a.jsonl", None
    (root / "config.yaml").write_text(yaml.safe_dump(tree))
    assert evaluate.main(["win-rate", "2", "base", "--run-dir", str(root)]) == 2
    assert "no policy of iteration 2" in capsys.readouterr().err
