"""The registry of judge kinds.

In: the `judge` section of the configuration. Out: its `JudgeKind`, or a loaded judge.
A kind from outside is named by its class: `judge.kind=package.module:Class`.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError
from sppo_ray.judging.judge import Judge, JudgeKind
from sppo_ray.judging.llm import LLMKind
from sppo_ray.judging.pairrm import PairRMKind
from sppo_ray.judging.python_function import PythonKind
from sppo_ray.judging.reward import RewardKind
from sppo_ray.loading import load_named

KINDS = {"pairrm": PairRMKind, "reward": RewardKind, "llm": LLMKind, "python": PythonKind}


def judge_kind(settings: JudgeSettings) -> JudgeKind:
    """The kind of a judge. Raises `ConfigError` for an unknown or incomplete one."""
    kind = load_named(settings.kind, KINDS, "judge.kind", type)(settings)
    if not isinstance(kind, JudgeKind):
        raise ConfigError(f"judge.kind={settings.kind} needs the methods check, load, description and demand")
    return kind


def load_judge(settings: JudgeSettings | Mapping[str, Any], device: str = "cpu") -> Judge:
    """The judge of a `judge` section of the configuration. Raises a `UserError` where it cannot be loaded."""
    if not isinstance(settings, JudgeSettings):
        try:
            settings = JudgeSettings.model_validate(settings)
        except ValidationError as error:
            raise ConfigError(f"judge: {error}") from None
    kind = judge_kind(settings)
    kind.check()
    return kind.load(device)
