"""Draws docs/theory.svg, the duality gap of the average policy against T, and docs/theory_anchors.svg, that of the last policies.

    python docs/theory_plot.py

In: the games of `sppo_ray.theory`. Out: the pictures beside this file; half a minute.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sppo_ray.theory import (
    INTRANSITIVE,
    ROCK_PAPER_SCISSORS,
    anchored_self_play,
    average_gap,
    duality_gap,
    random_game,
    self_play,
    theorem_bound,
)

STEPS = [2**k for k in range(3, 13)]
GAMES = {"rock, paper, scissors": ROCK_PAPER_SCISSORS} | {
    f"random, {n} responses": random_game(n, seed=0) for n in (5, 8, 20)
}
ITERATIONS, START, ETA, TAU = 8000, np.array([0.6, 0.3, 0.1]), 0.1, 0.2


def average() -> None:
    _, axes = plt.subplots(figsize=(7, 4.4))
    for name, game in GAMES.items():
        axes.loglog(STEPS, [average_gap(game, step) for step in STEPS], label=name)
    axes.loglog(STEPS, [theorem_bound(8, step) for step in STEPS], "--", color="gray", label="bound, 8 responses")
    axes.set_title("Duality gap of the average policy, the product's loss in self-play")
    save(axes, "iterations T (eta of order 1 / sqrt T)", "theory.svg")


def last() -> None:
    _, axes = plt.subplots(figsize=(7, 4.4))
    sppo = self_play(INTRANSITIVE, ETA, ITERATIONS + 1, START)
    mean = sppo.cumsum(axis=0) / np.arange(1, ITERATIONS + 2)[:, None]
    inpo = anchored_self_play(INTRANSITIVE, ETA, TAU, ITERATIONS, START)
    comal = anchored_self_play(INTRANSITIVE, ETA, TAU, ITERATIONS, START, base_every=200)
    lines = {"SPPO, last": sppo, "SPPO, average": mean, "INPO, last": inpo, "COMAL, last": comal}
    shown = range(0, ITERATIONS + 1, 20)
    for name, policies in lines.items():
        axes.semilogy(shown, [duality_gap(INTRANSITIVE, policies[t]) for t in shown], label=name)
    axes.set_title(f"Duality gap on an intransitive game, eta {ETA}, tau {TAU}")
    save(axes, "iteration", "theory_anchors.svg")


def save(axes: plt.Axes, label: str, name: str) -> None:
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.figure.tight_layout()
    axes.figure.savefig(Path(__file__).with_name(name), metadata={"Date": None})


if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "sppo-ray", "svg.fonttype": "none"}  # the same small picture each time
    average()
    last()
