"""Groups of rows compared."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from gates.frozen import Frozen, Json
from gates.policy import FairnessCheck
from stats.fairness import gap, group_table

UNKNOWN = "(unknown)"


def measure(check: FairnessCheck, frozen: Frozen) -> Json:
    """``gap`` (an interval, or None) between the groups ``judged``, and the counts and rates of every group.

    Decisions are taken at the policy's threshold; a null is a group of its own.
    """
    y, p = frozen.all_scored()
    column = pc.fill_null(pc.cast(frozen.column(check.by), pa.string()), UNKNOWN)
    table = group_table(column.to_numpy(zero_copy_only=False), y, p >= frozen.document.threshold)
    found = gap(
        table,
        check.measure,
        minimum_group=check.minimum_group,
        minimum_positives=check.minimum_positives,
        confidence=check.confidence,
        seed=frozen.seed,
    )
    return {
        "rows": len(y),
        "gap": asdict(found.interval) if found.interval else None,
        "judged": list(found.judged),
        "too_small": list(found.too_small),
        "groups": [{**row.as_dict(), "intervals": row.intervals(check.confidence)} for row in table],
    }
