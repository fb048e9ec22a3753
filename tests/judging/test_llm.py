"""An LLM as a judge, asked at an endpoint of this machine that answers and fails as the test says."""

from collections.abc import Callable
from dataclasses import asdict
from math import isnan, log, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError, JudgeUnavailable
from sppo_ray.judging import judge_kind
from sppo_ray.judging.llm.endpoint import EndpointJudge
from sppo_ray.judging.llm.question import question, read_template
from sppo_ray.judging.llm.verdict import verdict_logit
from sppo_ray.judging.scores import SURE
from tests.judging.endpoint import READ, Chances, Endpoint, Fault, serving

CERTAIN = log((1 - SURE) / SURE)
PRICE = {"input": 2.0, "output": 50.0}  # 100 tokens read and 1 written cost 0.00025 US dollars


def judge(url: str, retries: int = 2, seconds: float = 20.0, **settings: Any) -> EndpointJudge:
    return EndpointJudge(
        JudgeSettings(kind="llm", model="m", endpoint=url, **{"requests": 1} | settings), retries, seconds
    )


def longer(prompt: str, response_a: str, response_b: str) -> Chances:
    """The longer of two responses, with a bias for the first; equal lengths are a tie."""
    if len(response_a) == len(response_b):
        return {"C": 1.0}
    return {"A": 0.8, " B": 0.1, "C": 0.1} if len(response_a) > len(response_b) else {"B": 0.6, "A": 0.2, "a": 0.2}


def in_order(*faults: Fault) -> Callable[[int, str], Fault]:
    """The faults of the first requests; those that follow succeed."""
    return lambda number, _: faults[number] if number < len(faults) else None


# Verdicts by hand


@pytest.mark.parametrize(
    "tokens, odds",
    [
        ({"A": 0.8, "B": 0.1, "C": 0.1}, 0.85 / 0.15),  # a tie counts half
        ({"A": 0.3, " A": 0.3, "**B": 0.2, "The": 0.2}, 0.6 / 0.2),  # of its letters alone, however they are spelled
        ({"C": 1.0}, 1.0),
        ({"B": 1.0}, SURE / (1 - SURE)),
        ({"A": 0.3, "B": 0.1, "I": 0.6}, nan),  # what it says is no verdict, whatever else it might have said
    ],
)
def test_the_logit_of_a_verdict_is_the_odds_of_its_letters(tokens, odds):
    position = [(token, log(chance)) for token, chance in tokens.items()]
    expected = nan if isnan(odds) else log(odds)
    assert verdict_logit("", [[("\n", -0.1), ("A", -3.0)], position]) == pytest.approx(expected, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    "text, logit",
    [
        ("A", CERTAIN),
        (" **B**\n\nB is shorter.", -CERTAIN),
        ("(C).", 0.0),
        ("A better answer would be B", nan),
        ("I cannot judge that.", nan),
        ("BA", nan),
        ("", nan),
    ],
)
def test_without_tokens_a_letter_alone_in_the_first_line_is_the_verdict(text, logit):
    assert verdict_logit(text) == pytest.approx(logit, nan_ok=True)


# Questions


def test_placeholders_in_a_text_stay_as_they_are():
    words = question(read_template(None), "{response_a} of {prompt}?", "{response_b}", "second")
    assert "[Instruction]\n{response_a} of {prompt}?\n" in words and "[Response A]\n{response_b}\n" in words


def test_a_template_of_the_users_is_what_the_model_is_asked(tmp_path: Path):
    file = tmp_path / "question.txt"
    file.write_text("{prompt}: {response_a} or {response_b}?")
    stub = Endpoint(longer)
    with serving(stub) as url:
        judge(url, prompt=str(file), orders=2).compare(["Q"], [["x", "yy"]])
    assert [ask.messages for _, _, ask in stub.asked] == [
        [{"role": "user", "content": words}] for words in ("Q: x or yy?", "Q: yy or x?")
    ]


# Comparisons


def test_both_orders_are_asked_and_equal_responses_are_not():
    """By hand: longer first 0.85 : 0.15, longer second (0.2 is "a", no verdict) 0.2 : 0.6, equal lengths a tie."""
    stub = Endpoint(longer)
    with serving(stub) as url:
        asked = judge(url, price=PRICE)
        logits = asked.compare(["p"], [["x", "yyy", "zzz", "x"]])
    up, down = log(0.85 / 0.15), log(0.2 / 0.6)
    expected = [[0, down, down, 0], [up, 0, 0, up], [up, 0, 0, up], [0, down, down, 0]]
    assert logits.dtype == np.float32 and logits[0] == pytest.approx(np.array(expected), abs=1e-5)
    distinct = 6  # of 12 ordered pairs: ("x", "yyy") and so on are there twice, ("x", "x") needs no question
    assert len(stub.asked) == distinct
    used = {"questions": distinct, "input_tokens": 100 * distinct, "output_tokens": distinct, "usd": 0.00025 * distinct}
    assert asdict(asked.usage) == pytest.approx({"retries": 0, "unreadable": 0, "refused": 0} | used)


def test_one_order_is_half_the_questions():
    stub = Endpoint(longer)
    with serving(stub) as url:
        logits = judge(url, orders=1).compare(["p"], [["x", "yy", "zzz"]])
    assert len(stub.asked) == 3 and np.array_equal(logits[0], -logits[0].T) and (logits[0, 1:, 0] > 0).all()


@pytest.mark.parametrize(
    "most, tops, certain", [(5, [20, 5, 5], False), (0, [20, 5, 0, 0], True), (None, [20, 20], True)]
)
def test_an_endpoint_that_gives_fewer_tokens_is_asked_for_those(most, tops, certain):
    stub = Endpoint(longer, most_tokens=most)
    with serving(stub) as url:
        logits = judge(url).compare(["p"], [["x", "yy"]])
    assert [ask.top_logprobs for _, _, ask in stub.asked] == tops
    expected = [-CERTAIN, CERTAIN] if certain else [log(0.2 / 0.6), log(0.85 / 0.15)]
    assert [logits[0, 0, 1], logits[0, 1, 0]] == pytest.approx(expected, abs=1e-4)


def test_a_model_that_wants_its_limit_under_the_new_name_gets_it():
    stub = Endpoint(longer, most_tokens=5, renamed=True)
    with serving(stub) as url:
        logits = judge(url).compare(["p"], [["x", "yy"]])
    limits = [(ask.max_tokens, ask.max_completion_tokens, ask.top_logprobs) for _, _, ask in stub.asked]
    assert limits == [(8, None, 20), (None, 8, 20), (None, 8, 5), (None, 8, 5)]
    assert logits[0, 1, 0] == pytest.approx(log(0.85 / 0.15), abs=1e-4)


# Failures


@pytest.mark.parametrize(
    "faults, retries, unreadable",
    [
        ([500, 503], 2, 0),
        ([429], 1, 0),
        (["cut", "slow"], 2, 0),
        (["no JSON"], 0, 1),
        (["refusal"], 0, 1),
        (["garbage"], 0, 1),
        ([502, "refusal"], 1, 1),
    ],
)
def test_what_fails_is_asked_again_and_what_cannot_be_read_is_set_aside(faults, retries, unreadable):
    """Two questions, one after the other; the faults are those of the first."""
    stub = Endpoint(longer, in_order(*faults))
    with serving(stub) as url:
        asked = judge(url, seconds=0.5)
        logits = asked.compare(["p"], [["x", "yy"]])
    assert len(stub.asked) == 2 + retries
    assert (asked.usage.questions, asked.usage.retries) == (2, retries)
    assert (asked.usage.unreadable, asked.usage.refused) == (unreadable, 0)
    assert isnan(logits[0, 0, 1]) == bool(unreadable) and logits[0, 1, 0] == pytest.approx(log(0.85 / 0.15), abs=1e-5)
    answers = 2 - faults.count("no JSON")  # their tokens are paid for, with a verdict or without
    assert asked.usage.input_tokens == answers * READ


def test_a_rate_limit_is_waited_for():
    """The client's own back-off would be at most half a second."""
    stub = Endpoint(longer, in_order(429))
    with serving(stub) as url:
        judge(url).compare(["p"], [["x", "yy"]])
    assert stub.asked[1][0] - stub.asked[0][0] >= 1


@pytest.mark.parametrize("status, retries", [(400, 0), (500, 1)])
def test_a_question_that_the_endpoint_never_answers_is_set_aside_alone(status, retries):
    stub = Endpoint(longer, lambda _, words: status if "[Response A]\nyy\n" in words else None)
    with serving(stub) as url:
        asked = judge(url, retries=1)
        logits = asked.compare(["p"], [["x", "yy"]])
    assert isnan(logits[0, 1, 0]) and not isnan(logits[0, 0, 1])
    assert (asked.usage.refused, asked.usage.retries, asked.usage.unreadable) == (1, retries, 0)


@pytest.mark.parametrize("status", [401, 404, 500])
def test_an_endpoint_that_answers_nothing_is_unavailable(status, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    with serving(Endpoint(longer, lambda *_: status)) as url:
        asked = judge(url, retries=0, api_key_env="JUDGE_KEY")
        with pytest.raises(JudgeUnavailable, match=rf"{url} does not answer: .*status {status}, key \.\.\."):
            asked.compare(["p"], [["x", "yy"]])


def test_a_closed_port_is_unavailable():
    with serving(Endpoint(longer)) as url:
        pass
    with pytest.raises(JudgeUnavailable, match="does not answer: Connection error"):
        judge(url, retries=0).compare(["p"], [["x", "yy"]])


def test_this_machine_is_asked_without_a_proxy_and_with_the_key(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    stub = Endpoint(longer)
    with serving(stub) as url:
        judge(url, retries=0, api_key_env="JUDGE_KEY").compare(["p"], [["x", "yy"]])
    assert {authorization for _, authorization, _ in stub.asked} == {"Bearer secret-key"}


# Before anything starts


def check(url: str, **settings: Any) -> None:
    judge_kind(JudgeSettings(kind="llm", model="m", endpoint=url, **settings)).check()


def test_the_check_asks_one_question():
    stub = Endpoint(longer)
    with serving(stub) as url:
        check(url, price=PRICE)
    assert len(stub.asked) == 1


@pytest.mark.parametrize(
    "fault, words",
    [
        (401, "judge.endpoint=http.*, judge.model=m: .*401"),
        (404, "correct the settings"),
        ("refusal", "answered 'I cannot judge that.' where a letter was asked for"),
    ],
)
def test_an_endpoint_that_cannot_judge_is_refused_by_the_check(fault, words):
    with serving(Endpoint(longer, lambda *_: fault)) as url, pytest.raises(ConfigError, match=words):
        check(url)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"judge.api_key_env=JUDGE_KEY: this variable is not set"):
        check("http://127.0.0.1:9/v1", api_key_env="JUDGE_KEY")
    with pytest.raises(ConfigError, match=r"judge.prompt=nowhere cannot be read"):
        check("http://127.0.0.1:9/v1", prompt="nowhere")
    (tmp_path / "question.txt").write_text("{prompt} {response_a}")
    with pytest.raises(
        ConfigError, match=r"lacks {response_b}: it has to contain {prompt}, {response_a}, {response_b}"
    ):
        check("http://127.0.0.1:9/v1", prompt=str(tmp_path / "question.txt"))
    with pytest.raises(ValueError, match="budget needs price"):
        JudgeSettings(kind="llm", model="m", budget=1)
