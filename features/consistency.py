"""Were the values that were served the values that training sees? Recompute a sample of them and compare every cell."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from django.db import transaction

from audit.errors import InvalidInput
from features import cells, offline
from features.models import ConsistencyCheck, FeatureService, FeatureServiceFeature

EXAMPLES = 5
"""How many differing cells a check keeps to show."""


def check(
    service: FeatureService, served: pa.Table, *, timestamp: str, now: datetime, sample: int = 500
) -> list[ConsistencyCheck]:
    """Recompute ``sample`` rows of ``served`` offline and store one check per view version of the service.

    ``served`` is a piece of the prediction log: join keys, the time of serving (``timestamp``), request features and
    the service's columns as they were served. They are recomputed for the time of serving with all that has arrived by
    ``now``. So a view that claims to know something before it could, and a value that was served before its
    materialization, differ: both teach a model what it will not meet. Nothing served gives no check, never a clean one.
    """
    missing = [name for name in service.columns if name not in served.column_names]
    if missing:
        raise InvalidInput({"served": f"The columns {', '.join(missing)} of {service} are missing."})
    if served.num_rows == 0:
        return []
    rows = served.take(_spread(served.num_rows, sample))
    frame = rows.drop_columns(list(service.columns))
    recomputed = offline.training_frame(service, frame, timestamp=timestamp, as_of=now)
    by_view: dict[int, list[FeatureServiceFeature]] = {}
    for each in service.pinned():
        by_view.setdefault(each.view_version_id, []).append(each)
    with transaction.atomic():
        return [_compared(features, rows, recomputed, timestamp, now) for features in by_view.values()]


def _spread(rows: int, sample: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions of ``sample`` rows, evenly over all: the same each time, and from the whole period."""
    return np.unique(np.linspace(0, rows - 1, min(rows, sample)).astype(np.int64))


def _compared(
    features: Sequence[FeatureServiceFeature], served: pa.Table, recomputed: pa.Table, timestamp: str, now: datetime
) -> ConsistencyCheck:
    version = features[0].view_version
    keys = version.view.entity.join_keys
    differing = 0
    examples: list[dict[str, Any]] = []
    for each in features:
        before = cells.conform(served.column(each.column), version.types[each.feature])
        after = recomputed.column(each.column)
        positions = np.flatnonzero(cells.differing(before, after))
        differing += len(positions)
        for position in positions[: EXAMPLES - len(examples)].tolist():
            entity = {key: str(served.column(key)[position].as_py()) for key in keys}
            at = served.column(timestamp)[position].as_py()
            shown = {"served": str(before[position].as_py()), "recomputed": str(after[position].as_py())}
            examples.append({"entity": entity, "at": str(at), "feature": each.feature, **shown})
    return ConsistencyCheck.objects.create(
        view_version=version, at=now, cells=len(features) * served.num_rows, differing=differing, examples=examples
    )
