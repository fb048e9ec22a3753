"""Best-of-n in chat is the choice of whatever judge is configured, on a ranker without a cluster."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.engines.ranker import RankerActor
from actors.service.gateway import ClusterRun
from sppo_ray.config import load_config
from sppo_ray.judging import load_judge
from sppo_ray.judging.reward import RewardModel
from sppo_ray.run_folder import Ledger
from tests.judging.reward_checkpoint import build_reward_model

Ranker = RankerActor.__ray_metadata__.modified_class
ANSWERS = ["bb", "dddd", "a", "ccc"]


def length(prompt: str, responses: list[str]) -> list[float]:
    return [float(len(response)) for response in responses]


def shorter(prompt: str, responses: list[str]) -> list[list[float]]:
    """A matrix of probabilities."""
    return [[0.5 + 0.1 * (len(other) - len(one)) for other in responses] for one in responses]


def best(tmp_path: Path, kind: str, model: str) -> int:
    config = load_config(overrides=[f"judge.kind={kind}", f"judge.model={model}"])
    ranker = Ranker("ranker-0", lambda: load_judge(config.judge), Ledger(tmp_path), config)
    ranker.ready()

    def remote(call: Any) -> Any:
        async def called(*arguments: Any) -> Any:
            return call(*arguments)

        return SimpleNamespace(remote=called)

    member = SimpleNamespace(compare=remote(ranker.compare))
    pools = {"rankers": SimpleNamespace(member=remote(lambda: ("ranker-0", member)))}
    return asyncio.run(ClusterRun(config, Ledger(tmp_path), None, pools).best("Why?", ANSWERS))


@pytest.mark.parametrize("function, chosen", [("length", 1), ("shorter", 2)])
def test_a_function_chooses(tmp_path: Path, function: str, chosen: int) -> None:
    assert best(tmp_path, "python", f"{__name__}:{function}") == chosen


def test_a_reward_model_chooses(tmp_path: Path) -> None:
    model = str(build_reward_model(tmp_path / "model"))
    scores = RewardModel(model).scores(["Why?"], [ANSWERS])[0]
    assert best(tmp_path, "reward", model) == scores.argmax() != scores.argmin()
