"""A killed process is a delay: a fixed sample of what `make chaos` does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sppo_ray.playground import Playground
from tests.cluster import chaos

# One to three kills each.
SEEDS = [1, 2]


@pytest.fixture(scope="module")
def head(playground: Playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[chaos.Head]:
    with chaos.ray_head(tmp_path_factory.mktemp("head")) as started:
        yield started


@pytest.fixture(scope="module")
def quiet(head: chaos.Head, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("quiet")
    outcome = chaos.fake_run(head, folder, [], None)
    assert (outcome.lost, outcome.doubled, outcome.torn) == (0, 0, 0)
    return folder / "run", outcome.seconds


@pytest.mark.parametrize("seed", SEEDS)
def test_kills_change_nothing(seed: int, head: chaos.Head, quiet: tuple[Path, float], tmp_path: Path) -> None:
    outcome = chaos.fake_run(head, tmp_path, chaos.schedule(seed, quiet[1]), quiet[0])
    print(f"{outcome.seconds - quiet[1]:.0f} s lost to {outcome.kills}")
    assert outcome.kills
    assert (outcome.lost, outcome.doubled, outcome.torn, outcome.different_pairs) == (0, 0, 0, 0)
    assert head.left_behind() == []
