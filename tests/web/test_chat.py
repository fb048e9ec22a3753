"""The chat of a run by the real OpenAI client: whole, streamed, best of n; people's share has a bound, who leaves frees it."""

import asyncio
import time
from collections.abc import Iterator

import openai
import pytest

from sppo_ray.fakes import FakeJudge, FakeRun
from sppo_ray.web.turns import TooBusy, Turns
from tests.web.serving import TOKEN, sampled_folder, served

HELLO = [{"role": "user", "content": "Hello you"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    return FakeRun(sampled_folder(tmp_path_factory.mktemp("runs") / "run"), seconds=0.02)


@pytest.fixture(scope="module")
def client(run: FakeRun) -> Iterator[openai.OpenAI]:
    with served(run, chats=4) as url:
        yield openai.OpenAI(api_key=TOKEN, base_url=f"{url}/v1", max_retries=0)


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["policy", "policy-best-of-4"]


def test_a_whole_answer(client):
    answer = client.chat.completions.create(model="policy", messages=HELLO, n=2, max_tokens=3)
    assert [choice.message.content for choice in answer.choices] == ["w00 w01 w02 ", "w10 w11 w12 "]
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)
    assert answer.system_fingerprint == "iter-1"


def test_a_streamed_answer_comes_in_pieces(client):
    chunks = list(
        client.chat.completions.create(
            model="policy", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["w00 ", "w01 ", "w02 ", "w03 ", "w04 "]
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 5


@pytest.mark.parametrize("stream", [False, True])
def test_the_best_of_four_is_the_judges_choice(client, stream):
    answer = client.chat.completions.create(model="policy-best-of-4", messages=HELLO, max_tokens=2, stream=stream)
    texts = [f"w{n}0 w{n}1 " for n in range(4)]
    best = texts[int(FakeJudge().compare(["Hello you"], [texts])[0].sum(axis=1).argmax())]
    chosen = (
        "".join(chunk.choices[0].delta.content for chunk in answer) if stream else answer.choices[0].message.content
    )
    assert chosen == best


@pytest.mark.parametrize("stream", [False, True])
def test_sleeping_engines_are_a_503_in_openais_format(client, run, stream):
    run.asleep = True
    with pytest.raises(openai.InternalServerError, match="sleep while the policy trains") as error:
        client.chat.completions.create(model="policy", messages=HELLO, stream=stream)
    run.asleep = False
    assert error.value.status_code == 503 and error.value.response.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "policy-best-of-2", "n": 2},
        {"temperature": 0, "n": 2},
        {"messages": []},
        {"messages": [{"role": "owner", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x " * 2000}]},
    ],
)
def test_what_cannot_be_answered_is_refused(client, body):
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)):
        client.chat.completions.create(**{"model": "policy", "messages": HELLO, **body})


def test_who_leaves_frees_the_engine(client, run):
    stream = client.chat.completions.create(model="policy", messages=HELLO, stream=True, n=4)
    next(iter(stream))
    assert run.chats == 1
    stream.close()
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.05).chat.completions.create(model="policy", messages=HELLO, n=16)
    deadline = time.monotonic() + 10
    while run.chats and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.chats == 0


def test_answers_to_people_have_a_share_and_the_rest_waits():
    async def setup() -> list[str]:
        said: list[str] = []
        turns = Turns(3)

        async def ask(name: str, answers: int) -> None:
            async with turns.take(answers):
                said.append(f"{name} begins")
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                said.append(f"{name} ends")

        await asyncio.gather(ask("a", 2), ask("b", 1), ask("c", 16))
        return said

    assert asyncio.run(setup()) == ["a begins", "b begins", "a ends", "b ends", "c begins", "c ends"]


def test_more_than_can_wait_are_sent_away(monkeypatch):
    monkeypatch.setattr("sppo_ray.web.turns.MOST_WAITING", 0)

    async def setup() -> None:
        async with Turns(1).take(1):
            pass

    with pytest.raises(TooBusy):
        asyncio.run(setup())
