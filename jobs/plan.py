"""Plan a run before paying for it: every way to run it on the given GPUs, best first, with memory, time, bytes, cost.

    sppo-ray plan [--recipe NAME | --config FILE] --gpus N --gpu-memory GIB [--gpu NAME] [--host-memory GIB]
                  [--price USD] [--json]
                  [--sweep gpus=8,16,32,64 [--plot FILE]] [--probe] [key.path=value ...]

`python jobs/plan.py` is the same. Needs no GPU and no network. Exit status: 0 it fits, 1 it does not fit, 2 invalid input.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from jobs.command_line import add_configuration, command, configuration
from sppo_ray.config import Config
from sppo_ray.errors import ConfigError
from sppo_ray.planning.budget import Plan, Planner
from sppo_ray.planning.devices import HOST_SHARE, device
from sppo_ray.planning.rates import Rates
from sppo_ray.planning.text import lines, memory_table, sweep_svg, sweep_table, ways_table

MOST_WAYS = 8  # that are shown; --json has them all


@command
def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    config = configuration(given)
    counts = sweep_counts(given.sweep) if given.sweep else [given.gpus]
    kind = device(given.gpu_memory, given.gpu)
    rates = probe(config) if given.probe else None
    host = given.host_memory or HOST_SHARE * kind.memory_gib
    plans = [Planner(config, count, kind, host, rates, given.price).plan() for count in counts]
    fits = all(plan.fits for plan in plans)
    if given.sweep:
        given.plot.write_text(sweep_svg([plan.ways[0] for plan in plans]), "utf-8")
    if given.json:
        trees = [plan.tree() for plan in plans]
        print(json.dumps({"sweep": trees, "fits": fits} if given.sweep else trees[0]))
    else:
        show(plans, given.plot if given.sweep else None)
    return 0 if fits else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sppo-ray plan", description="Memory, time and cost of a run.")
    add_configuration(parser)
    parser.add_argument("--gpus", metavar="N", type=int, default=8, help="in the whole cluster (default: 8)")
    parser.add_argument("--gpu-memory", metavar="GIB", type=float, default=80.0, help="of each (default: 80)")
    parser.add_argument(
        "--host-memory", metavar="GIB", type=float, help="host memory for each GPU (default: twice the GPU's memory)"
    )
    parser.add_argument("--gpu", metavar="NAME", help="a GPU of the table (default: the one with the nearest memory)")
    parser.add_argument("--price", metavar="USD", type=float, help="per GPU-hour")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    parser.add_argument("--sweep", metavar="gpus=8,16", help="a plan for each number of GPUs, and a plot")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        default=Path("plan.svg"),
        help="where the sweep is drawn (default: plan.svg)",
    )
    parser.add_argument("--probe", action="store_true", help="measure the rates on the running cluster")
    return parser.parse_intermixed_args(arguments)


def sweep_counts(text: str) -> list[int]:
    name, _, counts = text.partition("=")
    if name != "gpus" or not all(count.isdigit() for count in counts.split(",")):
        raise ConfigError(f"--sweep {text}: write gpus=8,16,32,64")
    return [int(count) for count in counts.split(",")]


def probe(config: Config) -> Rates:
    """Rates measured on the cluster."""
    # Imported lazily: everything else here works without Ray.
    from actors.cluster.connection import connect
    from actors.cluster.probe import measure
    from jobs.sppo import default_root
    from sppo_ray.preparation import prepare

    preparation = prepare(config, lambda line: print(line, file=sys.stderr))
    print(connect(), file=sys.stderr)
    return measure(preparation, default_root().resolve())


def show(plans: list[Plan], plot: Path | None) -> None:
    console = Console(width=140, highlight=False, soft_wrap=True)
    if plot is None:
        [plan] = plans
        console.print("\n".join(lines(plan)), markup=False)
        console.print(memory_table(plan.ways[0]))
        console.print(ways_table(plan.ways[:MOST_WAYS]))
    else:
        console.print(sweep_table([plan.ways[0] for plan in plans]))
        console.print(f"plot: {plot}")


if __name__ == "__main__":
    sys.exit(main())
