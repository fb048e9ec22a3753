"""A run's numbers as Ray metrics, which Prometheus reads from every node and Grafana draws.

In: `RunStatus` every few seconds. Out: gauges and counters named `ray_sppo_...`, units in their names, labelled by run.
"""

import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import ray
from ray.util.metrics import Counter, Gauge

from sppo_ray.reporting import RunStatus
from sppo_ray.run_folder import Ledger

# Of the last optimizer step: key of `StepNumbers`, metric, description.
STEP = (
    ("loss", "sppo_loss", "Loss of the last optimizer step, mean over its pairs."),
    ("gradient_norm", "sppo_gradient_norm", "Norm of the last gradient, before clipping."),
    ("learning_rate", "sppo_learning_rate", "Learning rate of the last optimizer step."),
    ("chosen_log_ratio", "sppo_chosen_log_ratio_nats", "Mean log pi/pi_t of the chosen responses of the last step."),
    ("rejected_log_ratio", "sppo_rejected_log_ratio_nats", "Mean log pi/pi_t of the rejected responses of the last step."),
)  # fmt: skip
# Of the last finished iteration: key of its report, metric, description.
REPORT = (
    ("win_rate_vs_base", "sppo_win_rate_vs_base_ratio", "Win rate against the base on held-out prompts, by the judge."),
    ("win_rate_vs_previous", "sppo_win_rate_vs_previous_ratio", "Win rate against the previous policy."),
    ("mean_response_tokens", "sppo_response_length_tokens", "Mean length of the responses to held-out prompts."),
)  # fmt: skip
# Of a stage of the iteration: key, metric, description.
STAGES = (
    ("generate", "sppo_prompts_sampled", "Prompts whose responses are sampled."),
    ("judge", "sppo_prompts_judged", "Prompts whose responses are judged."),
    ("train", "sppo_pairs_trained", "Pairs that the policy was trained on."),
)
DASHBOARD = "sppo_grafana_dashboard.json"


class RunMetrics:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._run = {"run": ledger.root.name}
        self._pairs = ledger.config().generation.candidates * (ledger.config().generation.candidates - 1)
        self._metrics: dict[str, Any] = {}
        self._counted: dict[tuple[int, str], int] = {}  # by iteration and metric
        self._phase = ""

    def show(self, status: RunStatus) -> None:
        """Set every gauge and advance every counter. Call it more often than every 10 s: a gauge does not last."""
        self._gauge("sppo_iteration", "Iteration under way.", status.iteration)
        self._gauge("sppo_iterations", "Iterations of the run.", status.iterations)
        self._gauge("sppo_paused", "1 while the run is paused.", int(status.paused))
        self._gauge("sppo_set_aside_prompts", "Prompts of the iteration that were set aside.", status.set_aside)
        # Gauges, for a counter that never moved is not there at all.
        self._gauge("sppo_trainer_restarts", "Restarts of the trainer in the iteration.", status.trainer_restarts)
        if self._phase != status.phase and self._phase:
            self._gauge("sppo_phase", "1 for the phase that the run is in.", 0, phase=self._phase)
        self._phase = status.phase
        self._gauge("sppo_phase", "1 for the phase that the run is in.", 1, phase=status.phase)
        for key, name, description in STAGES:
            if key in status.stages:
                more = self._count(name, description, status.iteration, status.stages[key].done)
                if key == "judge":
                    self._add(
                        "sppo_comparisons", "Ordered pairs of responses compared by the judge.", more * self._pairs
                    )
        for key, name, description in STEP:
            self._gauge(name, description, (status.step or {}).get(key))
        report = self._ledger.report(max(1, self._ledger.finished_iterations())) or {}
        for key, name, description in REPORT:
            self._gauge(name, description, report.get(key))
        gap = report.get("diagnostics", {}).get("reference") or {}
        mismatch = "Mean |sampler - trainer| of the log-probabilities of the same tokens, nats per token."
        self._gauge("sppo_reference_mismatch_nats", mismatch, gap.get("mean_abs"))
        kept = report.get("diagnostics", {}).get("kept") or {}
        self._gauge(
            "sppo_update_kept_ratio",
            "Share of the update that the snapshot keeps, a projection.",
            kept.get("projection"),
        )
        for pool in status.pools:
            self._pool(pool, status)

    def _pool(self, name: str, status: RunStatus) -> None:
        pool = status.pools[name]
        up = [member for member in pool.members if member.state == "up"]
        busy = sum(member.load > 0 for member in up) / len(up) if up else 0.0
        self._gauge("sppo_pool_target_members", "Members that the pool is to have.", pool.target, pool=name)
        self._gauge("sppo_pool_up_members", "Members that serve.", len(up), pool=name)
        self._gauge("sppo_pool_queue_calls", "Calls that no member has taken yet.", pool.waiting, pool=name)
        in_flight = sum(member.load for member in pool.members)
        self._gauge("sppo_pool_in_flight_calls", "Calls that members work on.", in_flight, pool=name)
        self._gauge("sppo_engine_busy_ratio", "Share of the serving members that have work.", busy, pool=name)
        if name == "generators":
            rate, sequences = pool.tokens_per_second or 0.0, pool.sequences or 0
            self._gauge("sppo_engine_tokens_per_second", "Tokens sampled per second.", rate, pool=name)
            self._gauge("sppo_engine_sequences", "Responses that are being sampled.", sequences, pool=name)
        restarts = sum(member.restarts for member in pool.members)
        self._gauge("sppo_member_restarts", "Members lost and started again.", restarts, pool=name)

    def _gauge(self, name: str, description: str, value: float | None, **tags: str) -> None:
        if value is not None:
            self._metric(Gauge, name, description, tags).set(value, tags=self._run | tags)

    def _count(self, name: str, description: str, iteration: int, so_far: int) -> int:
        """Advance a counter to what the status counts so far in an iteration; returns by how much.

        A restarted coordinator counts an iteration again from 0: what was counted before is not added twice.
        """
        counted = self._counted.get((iteration, name), 0)
        more = max(0, so_far - counted)
        self._counted[iteration, name] = counted + more
        self._add(name, description, more)
        return more

    def _add(self, name: str, description: str, more: int) -> None:
        counter = self._metric(Counter, name, description, {})
        if more:
            counter.inc(more, tags=self._run)

    def _metric(self, kind: Any, name: str, description: str, tags: dict[str, str]) -> Any:
        if name not in self._metrics:
            self._metrics[name] = kind(name, description, tag_keys=("run", *tags))
        return self._metrics[name]


def provision_dashboard() -> Path | None:
    """Put the dashboard where Ray's own provisioning has Grafana look; None on a node without Ray's dashboard."""
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    default = session / "metrics" / "grafana" / "dashboards"
    folder = Path(os.environ.get("RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR", default))
    if not folder.is_dir():
        return None
    with resources.as_file(resources.files("sppo_ray.reporting").joinpath("grafana", DASHBOARD)) as packaged:
        return Path(shutil.copy(packaged, folder / DASHBOARD))
