"""The ratios that the project claims, each measured side by side on this machine.

    python jobs/bench.py [PART ...] [--output bench.json]

A part is a module of `jobs/benchmarks`, run in a process of its own. Exit status 0 also where a ratio falls short: it is
shown as short, with the reason. 1: a part did not run to its end.
"""

import argparse
import json
import pkgutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jobs import benchmarks
from sppo_ray.run_folder import files


def main(arguments: list[str] | None = None) -> int:
    parts = [module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.name.startswith("_")]
    parser = argparse.ArgumentParser(prog="jobs/bench.py", description="Measure the project's ratios.")
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"of {', '.join(parts)} (default: all)")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("bench.json"))
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.parts) - set(parts))
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(parts)}")
    rows, failed = [], []
    for part in given.parts or parts:
        started = time.monotonic()
        found = _measure(part)
        failed += [part] if found is None else []
        rows += found or []
        print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
    files.write_json(given.output.resolve(), rows)
    Console(width=140).print(_table(rows))
    print("on a GPU: not measured here, `python -m jobs.gpu_bench` does that on a machine that has one")
    for part in failed:
        print(f"error: {part} did not run to its end, see above", file=sys.stderr)
    return 1 if failed else 0


def _measure(part: str) -> list[dict[str, Any]] | None:
    """Run a part in a process of its own, so that no part sees another's memory, threads or Ray.

    What libraries say on the way is shown where the part fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        result, errors = Path(folder) / "ratios.json", Path(folder) / "errors"
        code = f"from jobs.bench import run_part; run_part({part!r}, {str(result)!r})"
        with errors.open("wb") as file:
            subprocess.run([sys.executable, "-c", code], check=False, stderr=file)
        if not result.exists():
            print(errors.read_text("utf-8", "replace"), file=sys.stderr)
            return None
        return json.loads(result.read_text())


def run_part(part: str, result: str) -> None:
    ratios = import_module(f"jobs.benchmarks.{part}").run()
    Path(result).write_text(json.dumps([asdict(ratio) for ratio in ratios]))


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column, justify in (("ratio of", "left"), ("measured", "right"), ("goal", "right"), ("", "left"), ("", "left")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        detail = ", ".join(f"{key} {value}" for key, value in row["detail"].items())
        table.add_row(row["name"], f"{row['ratio']:.3g}", f"{row['goal']:g}", "pass" if row["ok"] else "short", detail)
    return table


if __name__ == "__main__":
    sys.exit(main())
