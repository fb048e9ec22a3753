"""vLLM with an adapter samples from the policy that PEFT makes of it, also after another one is loaded in place."""

from pathlib import Path

import pytest
from peft import PeftModel

from sppo_ray.config import load_config
from sppo_ray.errors import SnapshotMismatch
from sppo_ray.playground import Playground
from sppo_ray.records import Prompt, Snapshot
from sppo_ray.sampling import VLLMGenerator
from tests.adapters import published_adapter
from tests.sampling.mismatch import mismatch, network_of

NATS_PER_TOKEN = 0.03  # in bfloat16: rounding makes about 0.013


def test_adapters_are_exchanged_in_place_and_stale_ones_are_noticed(
    playground: Playground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(playground.policy)
    first, second = (published_adapter(base, tmp_path / f"iter-{number}", number) for number in (1, 2))
    assert sum(file.stat().st_size for file in (tmp_path / "iter-1").iterdir()) < 100_000
    config = load_config(overrides=["generation.max_new_tokens=16", "training.adapter.rank=4"])
    engine = VLLMGenerator(config, Snapshot(0, base), [])
    prompts = [Prompt(f"p{n}", "", [5 + n, 9, 12, 7 * n + 3]) for n in range(4)]

    networks = [network_of(base), *(PeftModel.from_pretrained(network_of(base), one.uri) for one in (first, second))]
    for held, snapshot in enumerate((Snapshot(0, base), first, second)):
        engine.load(snapshot)
        rows = engine.generate(prompts, 3, snapshot.name)
        gaps = [mismatch(network, rows) for network in networks]
        assert gaps[held] < NATS_PER_TOKEN
        assert all(gap > 3 * NATS_PER_TOKEN for other, gap in enumerate(gaps) if other != held)

    merged = networks[2].merge_and_unload()
    assert mismatch(merged, rows) < NATS_PER_TOKEN
    with monkeypatch.context() as patched:
        patched.setattr(engine._engine, "add_lora", lambda request: True)
        with pytest.raises(SnapshotMismatch, match="the loaded adapter is not that of iter-1"):
            engine.load(first)
    engine.load(first)
    assert engine.snapshot == first
    engine.load(Snapshot(0, base))
    assert mismatch(networks[0], engine.generate(prompts, 3, "iter-0")) < NATS_PER_TOKEN
