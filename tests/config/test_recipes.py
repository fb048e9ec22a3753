"""The packaged recipes: they validate without a GPU, hold the published numbers, and `show` prints those."""

from importlib import resources
from pathlib import Path

import datasets
import pytest
import yaml

from jobs import plan, show
from sppo_ray.config import Config, load_config, recipe_names, resolved
from sppo_ray.prompts import iteration_prompts

RELEASED = {
    "gemma-2-9b-it": "google/gemma-2-9b-it",
    "llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "mistral-7b-instruct-v0.2": "mistralai/Mistral-7B-Instruct-v0.2",
}
LORA = ["gemma-2-9b-it-lora", "llama-3-8b-instruct-lora", "qwen3-8b-lora"]
PUBLISHED = [*RELEASED, "gemma-2-9b-it-paper"]
# Other objectives: loss, eta, anchors of the third iteration by snapshot.
OBJECTIVES = {
    "gemma-2-9b-it-inpo": ("ipo", 500, {0: 1 / 3, 2: 2 / 3}),
    "gemma-2-9b-it-mnpo": ("ipo", 133.3, {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
    "llama-3-8b-instruct-iterative-dpo": ("dpo", 10, {2: 1.0}),
}
PACKAGED = ["playground", "smollm2-135m-instruct", "gemma-2-27b-it", *LORA, *PUBLISHED, *OBJECTIVES]

# The list of the model card of UCLA-AGI/Gemma-2-9B-It-SPPO-Iter3, in its own names.
CARD = {
    "learning_rate": "5e-07",
    "eta": 1000,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "seed": 42,
    "distributed_type": "deepspeed_zero3",
    "num_devices": 8,
    "optimizer": "RMSProp",
    "lr_scheduler_type": "linear",
    "lr_scheduler_warmup_ratio": 0.1,
    "num_train_epochs": 1,
}


def printed(config: Config) -> dict:
    """The plan as one flat mapping; its sections do not share a name."""
    return {key: value for section in yaml.safe_load(resolved(config)).values() for key, value in section.items()}


def text_of(name: str) -> str:
    return resources.files("sppo_ray.config.recipes").joinpath(f"{name}.yaml").read_text("utf-8")


def test_the_recipes_are_there():
    assert set(recipe_names()) == set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_recipe_bears_its_name(name):
    assert load_config(name).recipe == name


@pytest.mark.parametrize("name", [*PUBLISHED, *LORA, *OBJECTIVES, "gemma-2-27b-it"])
def test_every_number_has_its_source_beside_it(name):
    """In the sections that make the result: each line with a value says paper, release, card, here, or where it is from."""
    section = ""
    for line in text_of(name).splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.split(":")[0]
        if line.startswith("  ") and section in ("generation", "judge", "training"):
            assert "#" in line or line.split(":")[0].strip() in ("cpus", "gpus"), line


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_objectives_are_loss_and_anchors(name, capsys):
    loss, eta, anchored = OBJECTIVES[name]
    training = load_config(name).training
    assert (training.loss, training.eta) == (loss, eta)
    assert training.anchored(3) == pytest.approx(anchored, abs=1e-6)
    assert (training.optimizer, training.schedule, training.batch_size) == ("adamw", "cosine", 128)
    assert plan.main(["--recipe", name, "--gpus", "16", "--gpu-memory", "80"]) == 0
    assert ("anchor" in capsys.readouterr().out.split("min per iteration")[0].splitlines()[-1]) == (len(anchored) > 1)


@pytest.mark.parametrize("name", RELEASED)
def test_the_release_s_values(name):
    config = load_config(name)
    assert config.policy.model == RELEASED[name]
    generation, training, judge = config.generation, config.training, config.judge
    assert (generation.candidates, generation.temperature, generation.top_p) == (5, 0.7, 0.9)
    assert generation.max_new_tokens == 2048
    assert (judge.model, judge.estimator, judge.temperature) == ("llm-blender/PairRM", "pooled", 1.0)
    assert (judge.source_max_length, judge.candidate_max_length) == (1224, 412)
    assert (training.loss, training.eta, training.learning_rate) == ("sppo", 1000.0, 5e-7)
    assert (training.warmup_ratio, training.max_grad_norm, training.epochs) == (0.1, 1.0, 1)
    assert (training.batch_size, training.workers, training.micro_batch_size) == (64, 8, 8)
    assert (config.policy.max_length, config.policy.max_prompt_length) == (1024, 512)
    assert (config.policy.dtype, training.gradient_checkpointing) == ("bfloat16", True)
    assert (config.iterations, config.seed) == (3, 42)
    assert config.prompts.source == "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset"
    assert (config.prompts.split, config.prompts.column) == ("train_iteration_{iteration}", "prompt")
    assert config.evaluation.held_out > 0


@pytest.mark.parametrize("name", ["gemma-2-9b-it", "gemma-2-9b-it-paper", "gemma-2-27b-it"])
def test_gemma_2_trains_with_the_attention_that_caps_its_logits(name):
    assert load_config(name).trained_attention == "flex_attention"
    assert load_config(name, overrides=["training.gpus=0"]).trained_attention == "eager"


def test_the_paper_differs_where_it_should_and_nowhere_else():
    paper, release = (load_config(name).model_dump() for name in ("gemma-2-9b-it-paper", "gemma-2-9b-it"))
    differs = {
        f"{s}.{k}" for s in release if isinstance(release[s], dict) for k in release[s] if paper[s][k] != release[s][k]
    }
    assert differs == {
        "prompts.source",
        "prompts.split",
        "prompts.column",
        "generation.temperature",
        "generation.top_p",
        "judge.estimator",
    }
    assert (paper["generation"]["temperature"], paper["generation"]["top_p"]) == (1.0, 1.0)
    assert (paper["judge"]["estimator"], paper["prompts"]["column"]) == ("pairwise", "instruction")
    assert "18-epoch" in text_of("gemma-2-9b-it-paper")


@pytest.mark.parametrize("key", CARD)
def test_the_plan_of_gemma_2_has_the_card_s_number(key):
    assert printed(load_config("gemma-2-9b-it"))[key] == CARD[key]


def test_the_plan_says_three_iterations_of_64_pairs():
    rows = printed(load_config("gemma-2-9b-it"))
    assert (rows["iterations"], rows["total_train_batch_size"]) == (3, 64)


def test_the_release_s_script_for_gemma_2_accumulates_twice():
    """run_sppo_gemma-2.sh: 8 devices x 4 x 2, the same 64 pairs."""
    rows = printed(load_config("gemma-2-9b-it", overrides=["training.micro_batch_size=4"]))
    assert (rows["gradient_accumulation_steps"], rows["total_train_batch_size"]) == (2, 64)


def test_a_bad_recipe_is_the_user_s_fault(capsys):
    assert show.main(["--recipe", "gemma"]) == 2
    assert "gemma-2-9b-it" in capsys.readouterr().err


def rows(start: int, count: int, column: str) -> datasets.Dataset:
    return datasets.Dataset.from_list(
        [{column: f"Question {n}", "source": "test"} for n in range(start, start + count)]
    )


def saved_snorkel(folder: Path) -> Path:
    splits = {f"train_iteration_{t}": rows(100 * t, 20 + t, "prompt") for t in (1, 2, 3)}
    splits |= {f"test_iteration_{t}": rows(1000 * t, 5, "prompt") for t in (1, 2, 3)}
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


def saved_ultrafeedback(folder: Path) -> Path:
    datasets.DatasetDict({"train": rows(0, 64, "instruction")}).save_to_disk(folder)
    return folder


@pytest.mark.parametrize(
    "name, save, sizes",
    [("gemma-2-9b-it", saved_snorkel, [18, 20, 21]), ("gemma-2-9b-it-paper", saved_ultrafeedback, [19, 19, 19])],
)
def test_a_recipe_reads_a_saved_data_set_of_its_shape(tmp_path, name, save, sizes):
    """With 7 held out: 3, 2, 2 of the three splits, or 7 of the one. The held-out prompts are never trained on."""
    config = load_config(name, overrides=[f"prompts.source={save(tmp_path / 'data')}", "evaluation.held_out=7"])
    found = iteration_prompts(config.prompts, config.iterations, config.seed, held_out=config.evaluation.held_out)
    assert [len(part) for part in found.iterations] == sizes
    assert len(found.held_out) == 7
    trained = {prompt.text for part in found.iterations for prompt in part}
    assert not trained & {prompt.text for prompt in found.held_out}
    again = iteration_prompts(config.prompts, config.iterations, config.seed, held_out=7)
    assert again.iterations == found.iterations
