"""The resolved recipe: every hyperparameter of a run, before anything is downloaded or started.

    sppo-ray show [--recipe NAME | --config FILE] [key.path=value ...]        python jobs/show.py is the same

Exit status: 0 printed, 2 the input is at fault.
"""

import argparse
import sys

from jobs.command_line import add_configuration, command, configuration
from sppo_ray.config import resolved


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sppo-ray show", description="Print the resolved recipe and start nothing.")
    add_configuration(parser)
    print(resolved(configuration(parser.parse_intermixed_args(arguments))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
