"""Trained tokens per second of the real model, SmolLM2-135M-Instruct, against TRL, at the lengths and settings of its recipe."""

from pathlib import Path

from jobs.benchmarks import Ratio
from jobs.benchmarks.training import tokens_a_second
from sppo_ray.instructions import small_model


def run() -> list[Ratio]:
    return [tokens_a_second("real", _link, 2, {"model": "SmolLM2-135M-Instruct, vocabulary 49152"})]


def _link(folder: Path) -> None:
    for file in small_model().iterdir():
        (folder / file.name).symlink_to(file)
