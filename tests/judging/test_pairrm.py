"""The judge against llm-blender itself, its batching, and what it says of a folder that is not a PairRM checkpoint."""

import json
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sppo_ray.errors import ModelError
from sppo_ray.judging import PairRM
from sppo_ray.judging.orders import to_compare
from sppo_ray.judging.pairrm.checkpoint import check_checkpoint
from tests import ROOT, SHARED
from tests.judging.judge_checkpoint import build_checkpoint

REAL = SHARED / "data/candidates_real.jsonl"
SOURCE, CANDIDATE = 96, 40  # tokens: real answers are cut

TRICKY = [
    ("What is the capital of France?", ["", "Paris.", " Paris.\n\n", "It is\tParis.", "\u200bParis"]),
    ("Translate 🎉 into Arabic", ["مرحبا بالعالم", "🎉🎊👩‍👩‍👧‍👦", "שלום", "日本語のテキスト", "é e\u0301"]),
    ("Explain [SEP] and [CLS] in BERT", ["[SEP]", "a [SEP] b [SEP]", "[CLS] first", "[PAD] [MASK] [UNK]", "none"]),
    ("", ["x", "y", "x y", "", "z"]),
    ("long " * 300, ["word " * 500, "short", "", "word " * 20, "other " * 70]),
]


def columns(rows: list[tuple[str, list[str]]]) -> tuple[list[str], list[list[str]]]:
    return [prompt for prompt, _ in rows], [texts for _, texts in rows]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = [file.read_text() for file in sorted((ROOT / "sppo_ray").rglob("*.py"))]
    corpus += [text for prompt, texts in TRICKY for text in (prompt, *texts)]
    return build_checkpoint(tmp_path_factory.mktemp("judge"), corpus, SOURCE, CANDIDATE)


@pytest.fixture(scope="module")
def judge(checkpoint: Path) -> PairRM:
    return PairRM(checkpoint, batch_tokens=4096)


@pytest.fixture(scope="module")
def blender(checkpoint: Path, judge: PairRM) -> Iterator[object]:
    """llm-blender as it is, with what Transformers 5 took away put back."""
    with pytest.MonkeyPatch.context() as patch:
        tokenizer = transformers.PreTrainedTokenizerBase
        patch.setattr(tokenizer, "batch_encode_plus", tokenizer.__call__, raising=False)
        patch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", "", raising=False)
        import llm_blender

        oracle = llm_blender.Blender()
        oracle.loadranker(str(checkpoint), device="cpu")
        oracle.blender_config.use_tqdm = False
        yield oracle


def ranked(blender, prompts: list[str], candidates: list[list[str]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """llm-blender's logits of all comparisons, and its scores of all candidates."""
    logits, predict = [], blender.ranker._full_predict

    def recording(**batch):
        outputs = predict(**batch)
        logits.append(outputs["logits"].float().numpy())
        return outputs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blender.ranker, "_full_predict", recording)
        scores = blender.rank(prompts, candidates, return_scores=True, batch_size=1)
    return np.concatenate(logits), scores


def assert_equal_to_blender(blender, judge: PairRM, prompts: list[str], candidates: list[list[str]]) -> None:
    logits, scores = ranked(blender, prompts, candidates)
    comparisons = judge.compare(prompts, candidates)
    assert comparisons.dtype == np.float32
    assert np.abs(comparisons).max() > 2  # the checkpoint's scores are spread, or equality would mean little
    np.testing.assert_allclose(comparisons, logits, atol=1e-4)
    np.testing.assert_allclose((comparisons - comparisons.swapaxes(1, 2)).mean(-1), scores, atol=1e-4)


def test_real_texts_score_as_in_llm_blender(blender, judge: PairRM) -> None:
    if not REAL.exists():
        pytest.skip(f"{REAL} is not here")
    rows = [json.loads(line) for line in REAL.read_text("utf-8").splitlines()[:10]]
    prompts, candidates = [row["prompt"] for row in rows], [row["candidates"] for row in rows]
    assert judge.truncated(prompts, candidates).mean() > 0.5
    assert_equal_to_blender(blender, judge, prompts, candidates)


def test_tricky_texts_score_as_in_llm_blender(blender, judge: PairRM) -> None:
    assert_equal_to_blender(blender, judge, *columns(TRICKY))


def test_a_literal_prefix_token_fails_in_llm_blender_and_is_blank_here(blender, judge: PairRM) -> None:
    for prompt, texts in [
        ("a <|source|> b", ["x", "y"]),
        ("a", ["x <|candidate2|>", "y"]),
        ("a", ["<|candidate|>x", "y"]),
    ]:
        with pytest.raises(RuntimeError):
            blender.rank([prompt], [texts], return_scores=True, batch_size=1)
        for name in ("source", "candidate", "candidate2"):
            prompt, texts = prompt.replace(f"<|{name}|>", "{}"), [text.replace(f"<|{name}|>", "{}") for text in texts]
        literal = judge.compare([prompt.format("<|source|>")], [[text.format("<|candidate2|>") for text in texts]])
        blank = judge.compare([prompt.format(" ")], [[text.format(" ") for text in texts]])
        np.testing.assert_array_equal(literal, blank)


def test_diagonal_is_zero_and_a_prompt_scores_the_same_alone(judge: PairRM) -> None:
    prompts, candidates = columns(TRICKY)
    together = judge.compare(prompts, candidates)
    assert together.shape == (5, 5, 5)
    assert not together[:, range(5), range(5)].any()
    for number, (prompt, texts) in enumerate(TRICKY):
        np.testing.assert_allclose(judge.compare([prompt], [texts])[0], together[number], atol=5e-5)


def test_one_row_a_batch_gives_the_same_scores(checkpoint: Path, judge: PairRM) -> None:
    rows = columns(TRICKY)
    np.testing.assert_allclose(PairRM(checkpoint, batch_tokens=1).compare(*rows), judge.compare(*rows), atol=5e-5)


def test_each_path_is_the_attention_of_transformers(judge: PairRM, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not at the top: vLLM 0.32 does not start in a process that has loaded llvmlite, and other tests have an engine in this one.
    from sppo_ray.judging.pairrm import attention

    encoder, positions = judge._model._encoder, judge._model._positions[0]
    layer = encoder.layer[0].attention.self
    for width in (1, 37, 130, 301):  # beyond 64, distances share a bucket
        mask = torch.arange(width) < torch.tensor([[width], [max(1, width - 20)]])
        hidden = torch.randn(2, width, 64)
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"), monkeypatch.context() as patch:
            expected = layer(hidden, encoder.get_attention_mask(mask), rel_embeddings=encoder.get_rel_embedding())[0]
            penalty = torch.where(mask, 0.0, -torch.inf)[:, None, None]
            everywhere = torch.arange(width).expand(2, -1)
            rest = attention.distances_of(layer, width, torch.device("cpu")), penalty
            attend = partial(attention.attend, layer, positions, hidden, hidden)
            found = [attend(None, *rest), attend(everywhere, *rest)]
            patch.setattr(attention, "_attend_on_cpu", attention.attend_fused)
            found.append(attend(None, *rest))
        for context in found:
            torch.testing.assert_close(context[mask], expected[mask], atol=1e-5, rtol=0)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`flex_attention` in place of the CPU's loop, without compiling it."""
    from sppo_ray.judging.pairrm import attention

    monkeypatch.setattr(attention, "_attend_on_cpu", attention.attend_fused)
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("multiple", [1, 8])
def test_the_path_of_a_gpu_scores_as_llm_blender(blender, checkpoint: Path, multiple: int) -> None:
    judge, widths = PairRM(checkpoint, batch_tokens=4096), []
    judge._multiple, margins = multiple, judge._model.margins
    judge._model.margins = lambda ids, *rest: widths.append(ids.shape[1]) or margins(ids, *rest)  # type: ignore[method-assign, func-returns-value]
    assert_equal_to_blender(blender, judge, *columns(TRICKY))
    assert any(width % 8 for width in widths) == (multiple == 1)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_llm_blender_s(blender, checkpoint: Path, judge: PairRM, dtype: str, monkeypatch) -> None:
    rows = columns(TRICKY[:4])
    exact, found = judge.compare(*rows), PairRM(checkpoint, batch_tokens=4096, dtype=dtype).compare(*rows)
    monkeypatch.setattr(blender, "ranker", deepcopy(blender.ranker).to(getattr(torch, dtype)))
    theirs, _ = ranked(blender, *rows)
    assert 0 < np.abs(found - exact).mean() < 1.5 * np.abs(theirs - exact).mean() < 0.2


def test_equal_texts_tie_exactly(judge: PairRM) -> None:
    comparisons = judge.compare(["Say hello"], [["Hello", "Bye", "Hello"]])[0]
    assert comparisons[0, 1] == comparisons[2, 1]
    assert comparisons[1, 0] == comparisons[1, 2]
    assert comparisons[0, 2] == comparisons[2, 0] != 0  # the position bias on one text against itself


def test_lengths_can_be_given(checkpoint: Path, judge: PairRM) -> None:
    prompts, candidates = ["Say it"], [["a b c d e f g h i j k l m n o p", "a b c d e f g h", "z"]]
    assert judge.truncated(prompts, candidates).tolist() == [0.0]
    # [CLS] prefix, 6 tokens, [SEP]: the two long answers are cut to the same text, and 6 of 6 comparisons hold one.
    short = PairRM(checkpoint, source_max_length=1, candidate_max_length=9)
    assert short.truncated(prompts, candidates).tolist() == [1.0]


def test_loading_leaves_transformers_as_it_was_and_says_nothing(checkpoint: Path) -> None:
    program = (
        "import sys; from sppo_ray.judging.pairrm import PairRM; import importlib.util\n"
        "from sppo_ray.judging.pairrm.checkpoint import check_checkpoint\n"
        f"check_checkpoint({str(checkpoint)!r}); assert not {{'torch', 'llm_blender', 'transformers'}} & set(sys.modules)\n"
        f"PairRM({str(checkpoint)!r})\n"
        "import transformers.utils.hub as hub; assert not hasattr(hub, 'TRANSFORMERS_CACHE'); assert 'vllm' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_hub_name_passes() -> None:
    check_checkpoint("llm-blender/PairRM")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("gone", ["judge", "is missing", "llm-blender/PairRM"]),
        ("file", ["is a file, not a folder"]),
        ("no config", ["config.json is missing", "ranker_type"]),
        ("not json", ["config.json cannot be read"]),
        ("other ranker", ["ranker_type 'summareranker'", "give a PairRM checkpoint"]),
        ("no lengths", ["source_maxlength None", "1224 and 412"]),
        ("no weights", ["neither model.safetensors nor pytorch_model.bin"]),
        ("no base", ["model_name '/nowhere/base'", "a folder that does not exist", "set model_name"]),
        ("other base", ["whose model_type is 'bert'"]),
    ],
)
def test_what_is_not_a_checkpoint_is_named_with_its_remedy(
    broken: str, words: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "judge"
    settings = json.loads((checkpoint / "config.json").read_text())
    if broken == "file":
        folder.write_text("")
    elif broken != "gone":
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"")
        settings |= {"other ranker": {"ranker_type": "summareranker"}, "no lengths": {"source_maxlength": None}}.get(
            broken, {}
        )
        settings |= {"no base": {"model_name": "/nowhere/base"}, "other base": {"model_name": "base"}}.get(broken, {})
        (folder / "base").mkdir()
        (folder / "base/config.json").write_text('{"model_type": "bert"}')
        (folder / "config.json").write_text("{" if broken == "not json" else json.dumps(settings))
    if broken == "no config":
        (folder / "config.json").unlink()
    if broken == "no weights":
        (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError) as raised:
        check_checkpoint(folder)
    for word in [str(folder), *words]:
        assert word in str(raised.value)


def test_weights_that_do_not_fit_are_named(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_text((checkpoint / "config.json").read_text())
    weights = load_file(checkpoint / "model.safetensors")
    head = weights.pop("head_layer.4.weight")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lack head_layer\.4\.weight"):
        PairRM(tmp_path)
    save_file(weights | {"head_layer.4.weight": head[:, :8]}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="do not fit"):
        PairRM(tmp_path)


def test_a_gpu_s_installation_needs_no_numba() -> None:
    program = "import sys; sys.modules['numba'] = None; import sppo_ray.judging.pairrm.model"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)


def test_each_pair_once_is_half_the_rows_of_both_orders(checkpoint: Path, judge: PairRM) -> None:
    """Each logit is the one that both orders give it; equal texts tie, and count once."""
    texts = [["x", "y", "x y", "z z"], ["x", "y", "x", "z"]]
    rows = 0
    once = PairRM(checkpoint, batch_tokens=4096, orders=1)
    margins = once._model.margins

    def counting(ids: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        nonlocal rows
        rows += len(ids)
        return margins(ids, *rest)

    once._model.margins = counting  # type: ignore[method-assign]
    found, both = once.compare(["p", "q"], texts), judge.compare(["p", "q"], texts)
    assert rows == 6 + 3
    made = to_compare(["p", "q"], texts, orders=1)
    np.testing.assert_allclose(found[made], both[made], atol=1e-4)
    assert np.array_equal(found, -found.swapaxes(1, 2)) and found[1, 0, 2] == 0
