"""Draws docs/theory.svg: the duality gap of the average policy against T, on log scales.

    python docs/theory_plot.py

In: the games of `sppo_ray.theory`. Out: the picture beside this file; half a minute.
"""

import math
from pathlib import Path

from sppo_ray.theory import ROCK_PAPER_SCISSORS, average_gap, random_game, theorem_bound

STEPS = [2**k for k in range(3, 13)]
GAMES = {"rock, paper, scissors": ("#c0392b", ROCK_PAPER_SCISSORS)} | {
    f"random, {n} responses": (color, random_game(n, seed=0))
    for n, color in ((5, "#2471a3"), (8, "#1e8449"), (20, "#b9770e"))
}
LEFT, RIGHT, TOP, BOTTOM = 70, 560, 50, 380
LOW, HIGH = -2.7, 0.0  # decades of the gap


def x(iterations: float) -> float:
    return LEFT + (RIGHT - LEFT) * math.log2(iterations / STEPS[0]) / math.log2(STEPS[-1] / STEPS[0])


def y(gap: float) -> float:
    return TOP + (BOTTOM - TOP) * (HIGH - math.log10(gap)) / (HIGH - LOW)


def line(values: list[float], color: str, extra: str = "") -> str:
    points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in zip(STEPS, values, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2" {extra}/>'


def text(at_x: float, at_y: float, words: str, extra: str = "") -> str:
    return f'<text x="{at_x:.1f}" y="{at_y:.1f}" {extra}>{words}</text>'


def axes() -> list[str]:
    parts = [f'<path d="M{LEFT},{TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#444"/>']
    parts += [text(x(step), BOTTOM + 18, str(step), 'text-anchor="middle"') for step in STEPS[::2]]
    for gap in (1.0, 0.1, 0.01):
        parts.append(f'<path d="M{LEFT},{y(gap):.1f}H{RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y(gap) + 4, f"{gap:g}", 'text-anchor="end"'))
    parts.append(
        text((LEFT + RIGHT) / 2, BOTTOM + 40, "iterations T (eta of order 1 / sqrt T)", 'text-anchor="middle"')
    )
    return [*parts, text(LEFT, TOP - 22, "Duality gap of the average policy, the product's loss in self-play")]


def picture() -> str:
    parts = axes()
    bound = [theorem_bound(8, step) for step in STEPS]
    parts += [line(bound, "#888", 'stroke-dasharray="6 4"'), text(RIGHT + 8, y(bound[-1]) + 4, "bound, 8 responses")]
    for place, (name, (color, game)) in enumerate(GAMES.items()):
        parts.append(line([average_gap(game, step) for step in STEPS], color))
        parts.append(text(LEFT + 16, BOTTOM - 66 + 18 * place, name, f'fill="{color}"'))
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 440" font-family="sans-serif" font-size="13">'
    return "\n".join([head, '<rect width="700" height="440" fill="white"/>', *parts, "</svg>\n"])


if __name__ == "__main__":
    Path(__file__).with_name("theory.svg").write_text(picture(), "utf-8")
