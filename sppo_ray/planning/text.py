"""A plan as text, tables and a plot.

In: `Plan`s and `Budget`s. Out: lines of text, rich tables, an SVG of how a run scales.
"""

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.table import Table

from sppo_ray.config import resolved
from sppo_ray.planning.budget import Budget, Plan
from sppo_ray.planning.memory import GIB
from sppo_ray.reporting.charts import Series, line_chart

COLORS = ["#2471a3", "#c0392b", "#1e8449", "#b9770e", "#6c3483", "#117a65"]
STAGES = ("generate", "judge", "anchor", "train", "checkpoint", "advance", "total")


def _stages(budget: Budget) -> list[str]:
    """The stages that take time: without other anchors there is none of those."""
    return [stage for stage in STAGES if getattr(budget.seconds, stage)]


def lines(plan: Plan) -> list[str]:
    """The plan without its tables: the best way in full."""
    best = plan.ways[0]
    work, rates = best.work, best.rates
    found = [
        resolved(best.config),
        "",
        f"on {best.split.devices} x {best.device.name} ({best.device.memory_gib:g} GiB):",
    ]
    for role, memory in best.memory.items():
        say = "fits" if memory.fits else "DOES NOT FIT"
        found.append(f"  {role + ':':<12} {say}, {memory.total / GIB:.1f} of {memory.limit / GIB:.1f} GiB per device")
    found += [f"nearest that fits: {words}" for words in plan.nearest]
    return [
        *found,
        f"per iteration: {work.prompts:,} prompts, {work.generated_tokens:,} tokens sampled, {work.comparisons:,} comparisons, "
        f"{work.trained_tokens:,} tokens trained in {work.steps} steps",
        f"throughput per engine ({rates.source}): {rates.generate:,.0f} tokens/s sampled, {rates.judge:,.0f} judged, "
        f"{rates.train:,.0f} trained",
        ", ".join(f"{stage} {getattr(best.seconds, stage) / 60:.0f}" for stage in _stages(best)) + " min per iteration",
        f"settings of the best: {' '.join(best.overrides)}",
        *(f"changes the recipe's numbers: {words}" for words in best.numbers),
        f"the run: {hours(best.run_seconds)}, {best.gpu_hours:,.0f} GPU-hours"
        + ("" if best.cost is None else f", {best.cost:,.0f} USD"),
        *([f"the judge's endpoint: {best.judge_usd:,.2f} USD"] if best.judge_usd else []),
        f"storage: {_gigabytes(best.storage)}",
        f"network: {_gigabytes(best.network)}",
        "fits" if plan.fits else "DOES NOT FIT",
    ]


def ways_table(ways: list[Budget]) -> Table:
    """One row per way to run, best first."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in (
        "",
        "trains",
        "offload",
        "generators",
        "rankers",
        "trainers",
        "run",
        "USD",
        "changes the recipe's numbers",
    ):
        table.add_column(column)
    for place, way in enumerate(ways, 1):
        training, split, parallel = way.config.training, way.split, way.config.generation.tensor_parallel
        table.add_row(
            f"{place} {split.placement}",
            f"LoRA, rank {training.adapter.rank}" if training.adapter.rank else "all weights",
            training.offload,
            str(split.generators) + (f" x {parallel} GPUs" if parallel > 1 else ""),
            str(split.rankers),
            str(split.trainers),
            hours(way.run_seconds),
            "" if way.cost is None else f"{way.cost:,.0f}",
            ", ".join(way.numbers),
        )
    return table


def memory_table(budget: Budget) -> Table:
    """GiB per device, one row per part."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("GiB per device")
    for role in budget.memory:
        table.add_column(role, justify="right")
    for part in dict.fromkeys(name for memory in budget.memory.values() for name in memory.parts):
        sizes = [memory.parts.get(part) for memory in budget.memory.values()]
        if any(sizes):
            table.add_row(part, *("" if size is None else f"{size / GIB:.2f}" for size in sizes))
    return table


def sweep_table(budgets: list[Budget]) -> Table:
    """One row per number of devices."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in (
        "GPUs",
        "fits",
        "placement",
        "generators",
        "rankers",
        "trainers",
        "iteration",
        "run",
        "GPU-hours",
        "USD",
    ):
        table.add_column(column, justify="right")
    for budget in budgets:
        split = budget.split
        counts = (str(count) for count in (split.generators, split.rankers, split.trainers))
        table.add_row(
            str(split.devices),
            "yes" if budget.fits else "no",
            split.placement,
            *counts,
            hours(budget.seconds.total),
            hours(budget.run_seconds),
            f"{budget.gpu_hours:,.0f}",
            "" if budget.cost is None else f"{budget.cost:,.0f}",
        )
    return table


def sweep_svg(budgets: list[Budget]) -> str:
    """Minutes per iteration and stage against the number of devices."""
    series = [
        Series(stage, [(budget.split.devices, getattr(budget.seconds, stage) / 60) for budget in budgets])
        for stage in _stages(budgets[0])
    ]
    title = f"{budgets[0].config.recipe}, {budgets[0].device.name}: minutes per iteration"
    chart = line_chart(title, "GPUs", series, x_values=[budget.split.devices for budget in budgets])
    environment = Environment(loader=PackageLoader("sppo_ray.reporting"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("chart.svg").render(chart=chart, colors=COLORS)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def _gigabytes(sizes: dict[str, float]) -> str:
    return ", ".join(f"{name} {size / 1e9:,.1f} GB" for name, size in sizes.items())
