"""Install the pinned CPU stack into the environment of the Python that runs this.

    python requirements/install.py requirements/cpu.txt

The list is installed with `--no-deps`, because pip has no other way to leave out packages that do not work on a CPU. PyTorch is
the exception: where the package index offers pip no CPU build, the CUDA build is taken together with the libraries it requires.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

GB = 1e9


def main(lock: Path) -> None:
    pins = [line for line in lock.read_text().splitlines() if line and not line.startswith("#")]
    torch = next(pin for pin in pins if pin.startswith("torch=="))
    if needs_cuda(torch):
        # The CUDA build pins its own triton.
        pins = [pin for pin in pins if pin != torch and not pin.startswith("triton==")]
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(pins))
            pip("install", "--constraint", str(constraints), torch)
        build = "CUDA build with its libraries, since the package index offers no CPU build; it runs on the CPU all the same"
    else:
        build = "CPU build"
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(pins))
        pip("install", "--no-deps", "--requirement", str(requirements))
    print(f"PyTorch: {build}. Environment: {size() / GB:.1f} GB.")


def needs_cuda(torch: str) -> bool:
    """Whether the build of PyTorch that pip would take here requires NVIDIA's libraries."""
    report = pip("install", "--dry-run", "--ignore-installed", "--no-deps", "--report", "-", torch)
    requires = json.loads(report)["install"][0]["metadata"].get("requires_dist", [])
    return any(name.startswith(("nvidia-", "cuda-")) for name in requires)


def pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", *arguments[1:]]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def size() -> int:
    """Bytes of all installed files."""
    files = (Path(file.locate()) for found in distributions() for file in found.files or [])
    return sum(file.stat().st_size for file in files if file.is_file())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
