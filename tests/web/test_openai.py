"""What OpenAI's clients and their users send by habit: taken, or refused with words that say what to do."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient

from sppo_ray.fakes import FakeRun
from sppo_ray.web.app import create_app
from tests.web.serving import AUTHORIZED, TOKEN, sampled_folder, served

USER = {"role": "user", "content": "Name a fruit."}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}


class Talk(FakeRun):
    """Remembers what it is asked to encode."""

    encoded: list[tuple[str, str]]

    async def encode(self, messages: Any) -> list[int]:
        self.encoded = [(turn["role"], turn["content"]) for turn in messages]
        return [1, 2]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    return Talk(sampled_folder(tmp_path_factory.mktemp("runs") / "run"))


@pytest.fixture(scope="module")
def client(run: Talk) -> TestClient:
    return TestClient(create_app(run, TOKEN), headers=AUTHORIZED, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def openai_client(run: Talk) -> Iterator[openai.OpenAI]:
    with served(run) as url:
        yield openai.OpenAI(api_key=TOKEN, base_url=f"{url}/v1", max_retries=0)


def asked(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": "policy", "messages": [USER], "max_tokens": 3, **body})


@pytest.mark.parametrize(
    ("messages", "encoded"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], [("user", "a\nb")]),
        ([{"role": "developer", "content": "Be brief"}, USER], [("system", "Be brief"), ("user", "Name a fruit.")]),
        ([{"role": "system", "content": ""}, USER], [("user", "Name a fruit.")]),
        ([{"role": "system", "content": []}, USER], [("user", "Name a fruit.")]),
        ([{"role": "system", "content": None}, USER], [("user", "Name a fruit.")]),
        ([USER, {"role": "assistant", "content": ""}, USER], [("user", "Name a fruit."), ("assistant", ""), ("user", "Name a fruit.")]),
        ([USER | {"name": "Ann"}], [("user", "Name a fruit.")]),
        ([USER, {"role": "assistant", "content": "Pear", "refusal": None, "audio": None, "tool_calls": None, "annotations": []}, USER],
         [("user", "Name a fruit."), ("assistant", "Pear"), ("user", "Name a fruit.")]),
    ],
)  # fmt: skip
def test_messages_of_every_usual_form_reach_the_policy(client, run, messages, encoded):
    assert asked(client, messages=messages).status_code == 200
    assert run.encoded == encoded


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}], "messages[0]: the policy reads text only, not a content part of type image_url"),
        ([{"role": "user", "content": [AUDIO]}], "messages[0]: the policy reads text only, not a content part of type input_audio"),
        ([USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "1", "content": "x"}, USER], "messages[1]: the policy cannot call tools"),
        ([USER, {"role": "function", "name": "f", "content": "x"}], "messages[1]: the policy cannot call tools"),
        ([USER, {"role": "assistant", "content": "Pe"}], "end with a user message"),
        ([{"role": "system", "content": "Be brief"}], "end with a user message"),
        ([{"role": "user", "content": ""}], "messages[0]: the user's message is empty"),
        ([{"role": "user", "content": []}], "messages[0]: the user's message is empty"),
        ([{"role": "user", "content": None}], "messages[0]: the user's message is empty"),
    ],
)  # fmt: skip
def test_messages_that_cannot_be_answered_are_named(client, messages, words):
    answer = asked(client, messages=messages)
    assert answer.status_code == 400 and words in answer.json()["error"]["message"]


NULLS = (
    "n max_tokens max_completion_tokens stream stream_options temperature top_p stop seed logprobs top_logprobs tools "
    "functions tool_choice response_format logit_bias presence_penalty frequency_penalty user metadata store audio modalities"
)


@pytest.mark.parametrize(
    "body",
    [
        dict.fromkeys(NULLS.split()),
        {"n": None},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"response_format": {"type": "text"}, "modalities": ["text"]},
        {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}},
        {"user": "ann", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "reasoning_effort": "low"},
        {"max_tokens": None, "max_completion_tokens": 3},
        {"logprobs": False, "top_logprobs": 0},
        {"stop": []},
    ],
)
def test_nulls_defaults_and_what_changes_no_answer_are_taken(client, body):
    answer = asked(client, **body)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].startswith("w00 w01 w02 ")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"max_tokens": 0}, 422, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_tokens": -1}, 422, "max_tokens: Input should be greater than or equal to 1"),
        ({"max_completion_tokens": 0}, 422, "max_completion_tokens: Input should be greater"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto"}, 400, "tools: not supported"),
        ({"functions": [{"name": "f"}]}, 400, "functions: not supported"),
        ({"tool_choice": "required"}, 400, "tool_choice: not supported"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format: not supported"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, 400, "response_format: not supported"),
        ({"logit_bias": {"5": 10}, "presence_penalty": 0.5}, 400, "logit_bias, presence_penalty: not supported"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "ash", "format": "wav"}}, 400, "audio, modalities: not supported"),
        ({"top_k": 5}, 400, "top_k: not supported"),
        ({"stop": ""}, 422, "stop"),
        ({"top_logprobs": 2}, 400, "top_logprobs needs logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, 422, "top_logprobs"),
        ({"top_p": 0, "n": 2}, 400, "leave n at 1"),
        ({"model": "gpt-4o"}, 404, "there is no model gpt-4o: use policy"),
        ({"model": "policy-best-of-17"}, 404, "there is no model policy-best-of-17"),
    ],
)  # fmt: skip
def test_what_the_service_cannot_do_is_refused_in_words(client, body, status, words):
    answer = asked(client, **body)
    assert answer.status_code == status and words in answer.json()["error"]["message"]


def test_an_unknown_model_is_a_404_in_openais_words(openai_client):
    for call in (
        lambda: openai_client.models.retrieve("gpt-4o"),
        lambda: openai_client.chat.completions.create(model="gpt-4o", messages=[USER]),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_models_are_retrieved_by_name(openai_client):
    for name in ("policy", "policy-best-of-4", "policy-best-of-16"):
        assert openai_client.models.retrieve(name).id == name


def test_other_endpoints_of_openai_say_where_to_look(openai_client):
    with pytest.raises(openai.NotFoundError, match="there is no /v1/responses"):
        openai_client.responses.create(model="policy", input="Name a fruit.")


def test_stop_seed_and_top_p_reach_the_engine(client, run):
    assert asked(client, stop="\n", seed=7, top_p=0.5, temperature=0.25).status_code == 200
    ask = run.asked
    assert (ask.stop, ask.seed, ask.top_p, ask.temperature, ask.logprobs) == (("\n",), 7, 0.5, 0.25, None)
    asked(client, stop=["a", "b"], top_p=0)  # the most likely token alone
    assert (run.asked.stop, run.asked.temperature, run.asked.top_p) == (("a", "b"), 0.0, 1.0)


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_each_token(openai_client, stream):
    answer = openai_client.chat.completions.create(
        model="policy", messages=[USER], max_tokens=2, logprobs=True, top_logprobs=2, stream=stream
    )
    parts = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    tokens = [token for part in parts for token in part.logprobs.content]
    assert [(token.token, token.logprob) for token in tokens] == [("w00 ", -0.5), ("w01 ", -0.5)]
    assert [(top.token, top.logprob) for top in tokens[0].top_logprobs] == [("w00 ", -0.5), ("other", -1.0)]
    assert tokens[0].bytes == list(b"w00 ")


def test_a_stream_of_two_answers_counts_both(openai_client):
    options = {"include_usage": True}
    chunks = list(
        openai_client.chat.completions.create(
            model="policy", messages=[USER], max_tokens=3, n=2, stream=True, stream_options=options
        )
    )
    assert chunks[-1].usage.completion_tokens == 6 and chunks[-1].choices == []
    assert [chunk.choices[0].index for chunk in chunks[:-1]] == [0, 1] * 3
    assert [chunk.choices[0].delta.role for chunk in chunks[:4]] == ["assistant", "assistant", None, None]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": None}, {"include_usage": False}])
def test_a_stream_without_usage(client, options):
    answer = asked(client, stream=True, stream_options=options)
    assert answer.status_code == 200 and '"usage"' not in answer.text and answer.text.endswith("data: [DONE]\n\n")


def test_the_fingerprint_is_the_snapshot_that_answered(client, run, monkeypatch):
    monkeypatch.setattr(run, "snapshot", "iter-2")  # loaded to be evaluated: iteration 2 has no report yet
    assert asked(client).json()["system_fingerprint"] == "iter-2"
    assert '"system_fingerprint": "iter-2"' in asked(client, stream=True).text
