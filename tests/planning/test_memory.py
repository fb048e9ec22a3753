"""The plan's memory of a train worker against what the operating system saw; the table is `make bench BENCH=memory`."""

from jobs.benchmarks.memory import CASES, TOLERANCE, compare
from sppo_ray.config import load_config
from sppo_ray.models import model_shape
from sppo_ray.planning.memory import GIB, generator_memory
from sppo_ray.planning.rates import most_sequences


def test_two_workers_of_a_small_mistral_take_what_the_plan_says() -> None:
    planned, measured = compare(CASES[-1], workers=2)
    assert abs(planned.total / measured - 1) < TOLERANCE


def test_an_engine_samples_what_is_in_flight_and_fits_in_its_cache() -> None:
    config = load_config("gemma-2-9b-it")
    shape = model_shape(config.policy.model, "policy.model")
    cache = generator_memory(config, shape, 80 * GIB).parts["kv_cache"]
    # A token's keys and values: 2 x 42 layers x 8 heads x 256 numbers x 2 bytes; prompts of 190 tokens.
    assert most_sequences(config, shape, 80 * GIB, 190) == int(cache / (344_064 * 190)) == 761
    few = load_config("gemma-2-9b-it", overrides=["generators.blocks=2"])
    assert most_sequences(few, shape, 80 * GIB, 190) == 2 * 32 * 5 + 16  # those of chats
    assert most_sequences(config, shape, 48 * GIB, 190) == 256  # vLLM's limit there
