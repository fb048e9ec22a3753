"""Write a recipe for a model, prompts and a judge, sized by the plan for the machine or cluster at hand.

    sppo-ray init FILE --model NAME --prompts SOURCE [--judge NAME] [--judge-kind KIND]
                  [--gpus N --gpu-memory GIB [--host-memory GIB]]

With --gpus it is sized for that machine instead; 0 is a machine without GPUs. Exit status: 0 written, 2 invalid input.
"""

import argparse
import os
import sys
from pathlib import Path

from jobs.command_line import command
from sppo_ray.config import JudgeSettings
from sppo_ray.errors import ConfigError
from sppo_ray.planning.devices import HOST_SHARE
from sppo_ray.planning.placing import Machines
from sppo_ray.preparation import new_recipe


@command
def main(arguments: list[str] | None = None) -> int:
    given = parse(arguments)
    if given.file.exists():
        raise ConfigError(f"{given.file} exists: name another file")
    machines = at_hand() if given.gpus is None else named(given)
    judge = JudgeSettings(kind=given.judge_kind, model=given.judge)
    config = new_recipe.new_recipe(given.file.stem, given.model, given.prompts, judge, machines)
    place = f"{machines.gpus} GPUs of {machines.gpu_gib:.0f} GiB" if machines.gpus else f"{machines.cpus:g} CPUs"
    given.file.write_text(new_recipe.recipe_yaml(config, f"Written by `sppo-ray init` for {place}."), "utf-8")
    print(
        f"{given.file}: for {place}; next: sppo-ray check --config {given.file}, then sppo-ray run --config {given.file}"
    )
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sppo-ray init", description="Write a recipe that fits this machine or cluster."
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="the recipe to write")
    parser.add_argument("--model", metavar="NAME", required=True, help="a model folder or hub name")
    parser.add_argument("--prompts", metavar="SOURCE", required=True, help="a file, a folder or a data set of the hub")
    parser.add_argument("--judge", metavar="NAME", default="llm-blender/PairRM", help="judge.model (default: PairRM)")
    parser.add_argument("--judge-kind", metavar="KIND", default="pairrm", help="judge.kind (default: pairrm)")
    parser.add_argument("--gpus", metavar="N", type=int, help="size it for N GPUs in place of those at hand")
    parser.add_argument("--gpu-memory", metavar="GIB", type=float, default=80.0, help="of each (default: 80)")
    parser.add_argument(
        "--host-memory", metavar="GIB", type=float, help="for each GPU (default: twice the GPU's memory)"
    )
    return parser.parse_args(arguments)


def named(given: argparse.Namespace) -> Machines:
    host = given.host_memory or HOST_SHARE * given.gpu_memory
    return Machines(float(os.cpu_count() or 1), given.gpus, given.gpu_memory, host)


def at_hand() -> Machines:
    # Imported lazily: sizing for a named machine works without Ray.
    from actors.cluster.connection import connect
    from actors.cluster.machines import machines
    from actors.engines import most_resources

    print(connect())
    return machines(most_resources())


if __name__ == "__main__":
    sys.exit(main())
