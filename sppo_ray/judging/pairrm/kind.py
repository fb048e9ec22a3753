"""The judge kind `pairrm`: what a run must know about a PairRM before it is loaded.

In: the `judge` section of the configuration. Out: checks, a description, its demand on a device, the judge itself.
"""

from pathlib import Path

from sppo_ray.config import JudgeSettings
from sppo_ray.judging.judge import Demand, Judge
from sppo_ray.judging.orders import ORDERS
from sppo_ray.judging.pairrm.checkpoint import check_checkpoint, read_settings
from sppo_ray.judging.pairrm.judge import PairRM
from sppo_ray.models import Shape, model_shape

SIZE = 2  # bytes per number: float16
POSITIONS = 512  # relative positions that a DeBERTa-v3 head scores each token against
PLAYGROUND = Shape(3, 64, 2, 2, 32, 192, 1242, 512, tied=True, gated=False, source="here")


class PairRMKind:
    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        check_checkpoint(self._settings.model)

    def load(self, device: str) -> Judge:
        settings = self._settings
        return PairRM(
            settings.model,
            device=device,
            batch_tokens=settings.batch_tokens,
            source_max_length=settings.source_max_length,
            candidate_max_length=settings.candidate_max_length,
            orders=settings.orders,
        )

    def description(self) -> str:
        return f"PairRM, {ORDERS[self._settings.orders]}, by llm-blender"

    def demand(self, prompt: int, response: int) -> Demand:
        shape = self._shape()
        state = SIZE * (6 * shape.hidden + 2 * shape.intermediate)
        return Demand(
            memory={
                "weights": SIZE * shape.parameters,
                "activations": self._settings.batch_tokens * (state + SIZE * 3 * shape.heads * POSITIONS),
            },
            tokens=min(prompt, self._settings.source_max_length) + 2 * response,
            operations=2 * shape.layers * shape.layer,
        )

    def _shape(self) -> Shape:
        """Shape of the encoder; a PairRM folder names its base model in its own config.json."""
        model = self._settings.model
        if model == "playground":
            return PLAYGROUND
        base = Path(read_settings(Path(model)).base) if Path(model).is_dir() else Path(model)
        return model_shape(model, "judge.model", base / "config.json")
