"""Tests, one folder per room of the code. Data that lies beside the checkout is optional: tests that use it skip without it."""

from pathlib import Path

from sppo_ray.planning.devices import slow_in_bf16

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

QUICK = ["policy.dtype=float32"] if slow_in_bf16() else []  # for runs; as `make demo` chooses
