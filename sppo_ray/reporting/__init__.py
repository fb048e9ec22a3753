"""What a run tells people: its live status, reports, the static page, model cards, charts, trackers.

In: counts while it runs, the ledger afterwards. Out: records, JSON, HTML, Markdown. The status records are light and
exported here; the other modules load template and table libraries and are imported by name.
"""

from sppo_ray.reporting.status import (
    MemberState,
    MemberStatus,
    Outage,
    PoolStatus,
    RunStatus,
    Stage,
    TokenCount,
    new_stages,
    seconds_left,
)

__all__ = [
    "MemberState",
    "MemberStatus",
    "Outage",
    "PoolStatus",
    "RunStatus",
    "Stage",
    "TokenCount",
    "cards",
    "charts",
    "new_stages",
    "page",
    "pair_browser",
    "report",
    "seconds_left",
    "trackers",
]
