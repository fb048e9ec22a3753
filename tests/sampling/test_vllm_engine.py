"""The real vLLM engine: raw log-probabilities are the policy's own, also after new weights were loaded in place."""

import json
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from sppo_ray.config import Config, TrainingSettings, load_config
from sppo_ray.errors import EngineFailed, ModelError, SnapshotMismatch
from sppo_ray.playground import Playground
from sppo_ray.prompts import SourcePrompt, chat_template
from sppo_ray.records import ChatRequest, Prompt, Snapshot, TokenDelta
from sppo_ray.run_folder.publishing import publish
from sppo_ray.sampling import VLLMGenerator, environment, vllm_engine
from tests.sampling.mismatch import mismatch, network_of

NATS_A_TOKEN = 1e-2  # in bfloat16
TEXTS = [
    "Name three fruits.",
    "What is the opposite of hot?",
    "Which is bigger, a mouse or a whale?",
    "Say hello to Ann.",
]


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(overrides=["generation.max_new_tokens=24"])


@pytest.fixture(scope="module")
def encoder(playground: Playground) -> chat_template.ChatEncoder:
    return chat_template.ChatEncoder(chat_template.load_tokenizer(str(playground.policy)))


@pytest.fixture(scope="module")
def prompts(encoder: chat_template.ChatEncoder) -> list[Prompt]:
    texts = [SourcePrompt(f"p{i}", ({"role": "user", "content": text},)) for i, text in enumerate(TEXTS)]
    return chat_template.encode(encoder, texts, max_prompt_length=512).prompts


@pytest.fixture(scope="module")
def stops(encoder: chat_template.ChatEncoder) -> list[int]:
    return chat_template.stop_token_ids(encoder, None)


@pytest.fixture(scope="module")
def engine(playground: Playground, config: Config, stops: list[int]) -> VLLMGenerator:
    before = temporary_files()
    engine = VLLMGenerator(config, Snapshot(0, str(playground.policy)), stops)
    assert temporary_files() == before
    return engine


def temporary_files() -> list[Path]:
    """Of vLLM; Ray and torch have folders of their own there."""
    return sorted(Path(tempfile.gettempdir()).glob("vllm*"))


def test_sampling_compiles_nothing_and_needs_no_compiler(engine: VLLMGenerator, prompts: list[Prompt]) -> None:
    torch._dynamo.reset()  # what is compiled already would be compiled again
    counters = torch._dynamo.utils.counters
    counters.clear()
    engine.generate(prompts[:2], 2, "iter-0")
    assert not counters["frames"]


def test_the_thread_that_steps_the_engine_builds_it_and_its_error_reaches_the_caller(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenMP would have threads of its own for another one that computes, and both would wait for each other's."""
    threads = []

    def leave() -> bool:
        threads.append(threading.current_thread().name)
        raise SystemExit("no engine")

    monkeypatch.setattr(vllm_engine, "set_environment", leave)
    with pytest.raises(SystemExit, match="no engine"):
        VLLMGenerator(config, Snapshot(0, "nowhere"), [])
    assert threads == ["vllm-engine"]


def test_the_rank_of_a_token_counts_those_as_likely() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, -3.0], [-3.0, -1.0, -1.0]])
    assert environment._ranks(logprobs, torch.tensor([[-2.0], [-3.0]])).tolist() == [2, 3]


def test_candidates_are_complete(
    engine: VLLMGenerator, config: Config, prompts: list[Prompt], stops: list[int]
) -> None:
    rows = engine.generate(prompts, 5, "iter-0")

    assert [row.prompt_id for row in rows] == [prompt.prompt_id for prompt in prompts]
    assert [row.prompt_token_ids for row in rows] == [prompt.token_ids for prompt in prompts]
    for row in rows:
        assert len(row.responses) == len(row.token_ids) == len(row.logprobs) == len(row.finish_reasons) == 5
        assert row.snapshot == "iter-0"
        for ids, logprobs, reason in zip(row.token_ids, row.logprobs, row.finish_reasons, strict=True):
            assert len(ids) == len(logprobs) <= config.generation.max_new_tokens
            assert (ids[-1] in stops) == (reason == "stop")
            assert not set(ids[:-1]) & set(stops)


def test_a_response_is_the_text_of_its_tokens_without_what_ended_it(
    engine: VLLMGenerator, playground: Playground, prompts: list[Prompt], stops: list[int]
) -> None:
    tokenizer = chat_template.load_tokenizer(str(playground.policy))
    rows = engine.generate(prompts, 5, "iter-0")
    for row in rows:
        for text, ids in zip(row.responses, row.token_ids, strict=True):
            assert text == tokenizer.decode([number for number in ids if number not in stops])
    assert {reason for row in rows for reason in row.finish_reasons} >= {"stop"}
    assert not any("<" in text for row in rows for text in row.responses)  # no marker of a turn


def test_scored_sequences_are_those_of_a_transformers_forward_pass(
    engine: VLLMGenerator, playground: Playground, prompts: list[Prompt]
) -> None:
    """Also under an anchor: the responses were sampled from another policy, here made of chance."""
    chance = torch.Generator().manual_seed(0)
    rows = engine.generate(prompts, 2, "iter-0")
    for row in rows:
        row.token_ids[1][:] = torch.randint(5, 60, (30,), generator=chance).tolist()
    sequences = [(row.prompt_token_ids + ids, len(row.prompt_token_ids)) for row in rows for ids in row.token_ids]
    found = engine.logprobs(sequences, "iter-0")
    assert [len(values) for values in found] == [len(ids) - start for ids, start in sequences]
    scored = [replace(row, logprobs=found[2 * n : 2 * n + 2]) for n, row in enumerate(rows)]
    # bfloat16 rounds logits of unlikely tokens more coarsely: the limit is the reference guard's.
    assert mismatch(network_of(str(playground.policy)), scored) < TrainingSettings().reference_tolerance
    for row, (again, _) in zip(rows, zip(found[::2], found[1::2], strict=True), strict=True):
        assert again == pytest.approx(row.logprobs[0], abs=0.1)  # as when they were sampled
    with pytest.raises(SnapshotMismatch, match="holds iter-0, the work asks for iter-1"):
        engine.logprobs(sequences[:1], "iter-1")


def test_logprobs_are_those_of_a_transformers_forward_pass(
    engine: VLLMGenerator, playground: Playground, prompts: list[Prompt]
) -> None:
    assert mismatch(network_of(str(playground.policy)), engine.generate(prompts, 5, "iter-0")) < NATS_A_TOKEN


def test_another_snapshot_than_asked_for_is_refused(engine: VLLMGenerator, prompts: list[Prompt]) -> None:
    with pytest.raises(SnapshotMismatch, match="holds iter-0, the work asks for iter-7"):
        engine.generate(prompts[:1], 2, "iter-7")


def test_a_published_policy_loaded_in_place_gives_its_own_logprobs(
    engine: VLLMGenerator, playground: Playground, prompts: list[Prompt], tmp_path: Path
) -> None:
    network = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.bfloat16)
    torch.manual_seed(0)
    changed = {name: (p + 0.02 * torch.randn_like(p)).detach() for name, p in network.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in changed.items()}
    snapshot = publish(
        tmp_path / "policy", 1, shapes, torch.bfloat16, changed.items(), str(playground.policy), "", shard_bytes=100_000
    )
    old = engine.generate(prompts, 5, "iter-0")
    engine.load(snapshot)
    new = engine.generate(prompts, 5, "iter-1")

    assert engine.snapshot == snapshot
    assert len(list((tmp_path / "policy").glob("*.safetensors"))) > 1
    assert mismatch(network_of(snapshot.uri), new) < NATS_A_TOKEN
    assert (
        mismatch(network_of(snapshot.uri), old) > 10 * NATS_A_TOKEN
    )  # the change shows, so the agreement above means something


def test_stale_weights_are_noticed_exactly(
    engine: VLLMGenerator, playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.bfloat16)
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] *= 1 + 2**-7  # one weight, by its last bit
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    snapshot = publish(
        tmp_path / "policy", 2, shapes, torch.bfloat16, weights.items(), str(playground.policy), ""
    )  # fmt: skip
    held, call = engine.snapshot, engine._engine.collective_rpc

    def lossy(method: str, *arguments: Any, **named: Any) -> Any:
        return None if method == "reload_weights" else call(method, *arguments, **named)

    engine.load(Snapshot(0, str(playground.policy)))
    with monkeypatch.context() as patched:
        patched.setattr(engine._engine, "collective_rpc", lossy)
        with pytest.raises(SnapshotMismatch, match=r"the loaded weights are not those of iter-2.*as before the load"):
            engine.load(snapshot)
    assert engine.snapshot.name == "iter-0"
    engine.load(snapshot)
    assert engine.snapshot == snapshot
    engine.load(held)


def test_a_prefix_cache_that_stays_is_an_error(engine: VLLMGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._engine, "reset_prefix_cache", lambda: False)
    with pytest.raises(EngineFailed, match="could not drop the prefix cache"):
        engine.load(engine.snapshot)


def test_tokens_are_counted_while_they_are_sampled(
    engine: VLLMGenerator, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm_engine, "COUNT_SECONDS", 0.0)
    before, seen = engine.progress().tokens, []
    with ThreadPoolExecutor() as pool:
        run = pool.submit(engine.generate, prompts * 8, 5, engine.snapshot.name)
        while not run.done():
            seen.append(engine.progress())
            time.sleep(0.02)
    tokens = [progress.tokens for progress in seen]
    assert tokens == sorted(tokens) and len(set(tokens)) > 3
    assert max(progress.sequences for progress in seen) == len(prompts) * 8 * 5
    while engine.progress().sequences:  # it is counted after the last response is returned
        time.sleep(0.01)
    after = engine.progress()
    assert after.tokens - before == sum(len(ids) for row in run.result() for ids in row.token_ids)


def test_a_model_that_vllm_does_not_know_is_the_users_mistake(
    playground: Playground, config: Config, stops: list[int], tmp_path: Path
) -> None:
    folder = shutil.copytree(playground.policy, tmp_path / "model")
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | {"architectures": ["Gemma2ForNothing"]}))
    with pytest.raises(ModelError, match=r"policy.model: vLLM cannot run .*Gemma2ForNothing.* are not supported"):
        VLLMGenerator(config, Snapshot(0, str(folder)), stops)


def answers(pieces: list[TokenDelta]) -> dict[int, list[TokenDelta]]:
    return {index: [piece for piece in pieces if piece.index == index] for index in sorted({p.index for p in pieces})}


def test_a_person_is_answered_in_pieces_while_the_run_samples(engine: VLLMGenerator, prompts: list[Prompt]) -> None:
    with ThreadPoolExecutor() as pool:
        run = pool.submit(engine.generate, prompts, 5, engine.snapshot.name)
        moments = list(engine.chat(ChatRequest(prompts[0].token_ids, 2, 12, 0.8, 0.95), "one"))
    found = answers([piece for moment in moments for piece in moment])
    assert list(found) == [0, 1] and len(run.result()) == len(prompts)
    for pieces in found.values():
        assert len(pieces) > 1 and 1 < sum(piece.tokens for piece in pieces) <= 12
        assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].finish_reason in ("stop", "length")


def test_a_person_gets_stop_texts_seeds_and_logprobs(engine: VLLMGenerator, prompts: list[Prompt]) -> None:
    def asked(**options: Any) -> tuple[list[str], list[TokenDelta]]:
        request = ChatRequest(prompts[0].token_ids, 2, 12, 1.0, 1.0, **options)
        deltas = [piece for moment in engine.chat(request, "person") for piece in moment]
        return ["".join(piece.text for piece in pieces) for pieces in answers(deltas).values()], deltas

    texts, deltas = asked(seed=3, logprobs=2)
    assert texts == asked(seed=3)[0] and texts[0] != texts[1]
    for delta in deltas:
        assert delta.snapshot == engine.snapshot.name and len(delta.logprobs) == delta.tokens
        for token in delta.logprobs:
            assert len(token.top) == 2 and 0 >= token.top[0][1] >= token.top[1][1]
            assert token.logprob <= token.top[0][1] + 1e-6
    stop = texts[0][2:5]
    assert asked(seed=3, stop=(stop,))[0][0] == texts[0][: texts[0].index(stop)]


def test_who_leaves_ends_the_answer(engine: VLLMGenerator, prompts: list[Prompt]) -> None:
    # At this temperature the policy writes noise, which seldom stops by itself.
    chat = engine.chat(ChatRequest(prompts[0].token_ids, 16, 400, 2.0, 1.0), "two")
    next(chat)
    engine.abort("two")
    rest = answers([piece for moment in chat for piece in moment])
    assert sum(piece.tokens for pieces in rest.values() for piece in pieces) < 16 * 400
    assert not all(pieces[-1].finish_reason for pieces in rest.values())
    engine.abort("two")  # once more does nothing
    assert len(engine.generate(prompts[:1], 2, engine.snapshot.name)) == 1


def test_a_question_that_does_not_fit_is_refused(engine: VLLMGenerator) -> None:
    with pytest.raises(Exception, match="maximum context length is 536 tokens"):
        list(engine.chat(ChatRequest([5] * 5000, 1, 4, 1.0, 1.0), "three"))
