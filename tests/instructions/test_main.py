"""`python -m sppo_ray.instructions`: what it says of a path that is no run's."""

import runpy
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_a_path_that_is_no_run_folder_ends_the_command_in_one_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["instructions", str(tmp_path / name)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("sppo_ray.instructions", run_name="__main__")
    assert ended.value.code == 2
    assert f"error: {tmp_path / name} is no run folder" in capsys.readouterr().err
