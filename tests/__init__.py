"""Tests, one folder per room of the code. Data that lies beside the checkout is optional: tests that use it skip without it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
