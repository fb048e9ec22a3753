"""What the commands share: how a configuration is named, and output that any terminal can show."""

import argparse
import sys
from pathlib import Path

from sppo_ray.config import Config, load_config


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """The arguments that `configuration` reads."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--recipe", metavar="NAME", help="a packaged recipe (default: playground)")
    which.add_argument("--config", metavar="FILE", type=Path, help="a configuration file, in the recipes' format")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="in place of the recipe's values")


def configuration(given: argparse.Namespace) -> Config:
    return load_config(given.recipe, given.config, given.overrides)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    hours, minutes = divmod(round(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{round(seconds)} s"


def show_any_text() -> None:
    """Characters that the terminal's encoding lacks are printed as escapes: output never fails for them."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a text file of Python's own
