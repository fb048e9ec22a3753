"""Line charts as numbers: where each line, band, dot and tick of an SVG goes. The template draws them.

In: series of (x, y) with optional intervals. Out: a `Chart` in the coordinates of its view box.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 420.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 34.0
MOST_POINTS = 400  # of a line


@dataclass(frozen=True)
class Series:
    """One line. intervals: (low, high) of each point, where known. dots: whether its points are marked."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()
    dots: bool = True


@dataclass(frozen=True)
class Line:
    """A series as drawn. path, band, whiskers: SVG path data. dots: (x, y, title)."""

    name: str
    path: str
    band: str
    whiskers: str
    dots: list[tuple[float, float, str]]


@dataclass(frozen=True)
class Chart:
    """title, x_label: words. ticks: (position, label). marks: x positions of vertical lines."""

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    marks: list[float] = field(default_factory=list)
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    bottom: float = HEIGHT - BOTTOM
    top: float = TOP


def line_chart(
    title: str,
    x_label: str,
    series: Sequence[Series],
    y_range: tuple[float, float] | None = None,
    x_values: Sequence[float] | None = None,
    marks: Sequence[float] = (),
) -> Chart:
    """y_range: the whole axis, or one that holds all points, from 0, when not given. x_values: ticks, whole numbers by default."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points] + [y for one in series for both in one.intervals for y in both]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    y_ticks = _ticks(*(y_range or (min(0.0, *ys), max(ys))))
    y_low, y_high = y_range or (y_ticks[0], y_ticks[-1])

    def across(x: float) -> float:
        return round(LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT), 1)

    def up(y: float) -> float:
        return round(HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP), 1)

    def line(one: Series) -> Line:
        at = [(across(x), up(y)) for x, y in one.points]
        low = [(x, up(bounds[0])) for (x, _), bounds in zip(at, one.intervals, strict=False)]
        high = [(x, up(bounds[1])) for (x, _), bounds in zip(at, one.intervals, strict=False)]
        bounds = [f" ({low:.3g} to {high:.3g})" for low, high in one.intervals] or [""] * len(at)
        titles = [f"{one.name}, {x:g}: {y:.4g}{extra}" for (x, y), extra in zip(one.points, bounds, strict=True)]
        dots = [(x, y, title) for (x, y), title in zip(at, titles, strict=True)] if one.dots else []
        band = _path(low + high[::-1]) + "Z" if low else ""
        return Line(one.name, _path(at), band, "".join(map(_path, zip(low, high, strict=True))), dots)

    ticks = x_values if x_values is not None else [x for x in _ticks(x_low, x_high) if x.is_integer() and x <= x_high]
    return Chart(
        title=title,
        x_label=x_label,
        lines=[line(one) for one in series],
        x_ticks=[(across(x), f"{x:g}") for x in ticks],
        y_ticks=[(up(y), f"{y:g}") for y in y_ticks],
        marks=[across(x) for x in marks],
    )


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most that many points, each the mean of a run of neighbours."""
    size = math.ceil(len(points) / most)
    runs = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def smoothed(points: Sequence[tuple[float, float]], reach: int) -> list[tuple[float, float]]:
    """Each point's y as the mean of its neighbours up to `reach` to either side."""
    windows = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    return [(x, sum(y for _, y in near) / len(near)) for (x, _), near in zip(points, windows, strict=True)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers, at most `most` + 1 steps apart, that cover low to high."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor * most >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]
