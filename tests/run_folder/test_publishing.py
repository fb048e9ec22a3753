"""Published policies appear whole, load with Transformers, and are known when they are damaged."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_ray.errors import DamagedFile
from sppo_ray.playground import Playground
from sppo_ray.records import Snapshot
from sppo_ray.run_folder.publishing import publish
from sppo_ray.run_folder.snapshots import read_manifest, read_snapshot, verify
from sppo_ray.run_folder.weight_sums import folder_sum


@pytest.fixture
def weights(playground: Playground) -> dict[str, torch.Tensor]:
    network = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.bfloat16)
    return {name: parameter.detach() + 1 for name, parameter in network.named_parameters()}


def published(folder: Path, weights: dict[str, torch.Tensor], base: Path, shard_bytes: int = 1 << 30) -> Snapshot:
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    return publish(folder, 2, shapes, torch.bfloat16, weights.items(), str(base), "# card", shard_bytes)


@pytest.mark.parametrize("shard_bytes", [1 << 30, 50_000])
def test_a_published_policy_loads_with_transformers(
    playground: Playground, weights: dict[str, torch.Tensor], tmp_path: Path, shard_bytes: int
) -> None:
    snapshot = published(tmp_path / "policy", weights, playground.policy, shard_bytes)

    loaded = dict(AutoModelForCausalLM.from_pretrained(snapshot.uri).named_parameters())
    assert set(loaded) == set(weights)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert AutoTokenizer.from_pretrained(snapshot.uri).chat_template
    assert read_snapshot(tmp_path / "policy", 2) == snapshot
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]
    verify(snapshot)


def test_a_policy_in_float32_loses_nothing_and_has_the_checksum_of_what_engines_round_it_to(
    playground: Playground, tmp_path: Path
) -> None:
    before = AutoModelForCausalLM.from_pretrained(playground.policy, dtype=torch.float32)
    weights = {name: p.detach().bfloat16().float() * (1 + 1e-4) for name, p in before.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    stream = (shapes, torch.float32, weights.items(), str(playground.policy), "# card")
    whole = publish(tmp_path / "whole", 3, *stream, held=torch.bfloat16)

    loaded = dict(AutoModelForCausalLM.from_pretrained(whole.uri).named_parameters())
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    manifest = read_manifest(Path(whole.uri), whole)
    assert manifest["kept"] == {"projection": pytest.approx(1), "cosine": pytest.approx(1)}
    assert manifest["weights"] == folder_sum(Path(whole.uri), torch.bfloat16)


def test_an_unfinished_publication_is_not_there(
    playground: Playground, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    class Torn(dict[str, torch.Tensor]):
        def items(self):  # type: ignore[no-untyped-def]
            yield from list(super().items())[:3]
            raise Stopped

    with pytest.raises(Stopped):
        published(tmp_path / "policy", Torn(weights), playground.policy)
    assert read_snapshot(tmp_path / "policy", 2) is None


def test_a_damaged_file_is_named(playground: Playground, weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    snapshot = published(tmp_path / "policy", weights, playground.policy)
    (tmp_path / "policy" / "config.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"config\.json does not match"):
        verify(snapshot)
