"""What a run tells people: its live status, reports, the static page, model cards, charts, trackers.

In: counts while it runs, the ledger afterwards. Out: records, JSON, HTML, Markdown. The status records are light and
exported here; the other modules load template and table libraries and are imported by name.
"""

from sppo_ray.reporting.status import MemberState, MemberStatus, Outage, PoolStatus, RunStatus, Stage, new_stages

__all__ = [
    "MemberState",
    "MemberStatus",
    "Outage",
    "PoolStatus",
    "RunStatus",
    "Stage",
    "cards",
    "charts",
    "new_stages",
    "page",
    "pair_browser",
    "report",
    "trackers",
]
