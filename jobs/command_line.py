"""What the commands share: how a configuration is named, how they end, and output that any terminal can show."""

import argparse
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

from sppo_ray.config import Config, load_config
from sppo_ray.errors import SppoError, UserError

P = ParamSpec("P")


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


def command(main: Callable[P, int]) -> Callable[P, int]:
    """The main function of a command: its errors are one line, and end it with status 2 if the input is at fault, else 1."""

    @wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        show_any_text()
        try:
            status = main(*args, **kwargs)
            sys.stdout.flush()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except SppoError as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:  # the reader of the output has seen enough, as `head` has
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
            return 1
        return status

    return run
