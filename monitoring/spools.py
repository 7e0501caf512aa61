"""How the prediction log's spools fare, by what gateways and ingestion told: rows lost, records torn, disks filling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from rollout.models import GatewayProcess, SpoolSegment

RECENT = timedelta(days=1)
ALIVE = timedelta(minutes=2)
"""A gateway that told nothing of itself for so long says nothing of the spool either."""
CROWDED = 0.8
"""Share of the disk budget from which on gateways send no traffic to canaries."""


@dataclass(frozen=True)
class Spools:
    """Of the last day. ``dropped``: rows answered but not logged, by process. ``damaged``: bytes that can not be read,
    ``torn``: bytes of a record over which its process died, both by segment. ``fullest``: the largest share of a
    spool's budget that is used now; None when no gateway says so."""

    dropped: Mapping[str, int]
    damaged: Mapping[str, int]
    torn: Mapping[str, int]
    fullest: float | None

    @property
    def is_crowded(self) -> bool:
        return self.fullest is not None and self.fullest >= CROWDED


def spools(*, now: datetime) -> Spools:
    """What was told until ``now``."""
    processes = GatewayProcess.objects.filter(seen_at__gt=now - RECENT)
    segments = SpoolSegment.objects.filter(last_at__gt=now - RECENT)
    alive = processes.filter(seen_at__gt=now - ALIVE, ended_at=None)
    used = alive.order_by("-spool_bytes").values_list("spool_bytes", flat=True).first()
    return Spools(
        dropped=dict(processes.filter(dropped_rows__gt=0).values_list("name", "dropped_rows")),
        damaged=dict(segments.filter(damaged_bytes__gt=0).values_list("name", "damaged_bytes")),
        torn=dict(segments.filter(torn_bytes__gt=0).values_list("name", "torn_bytes")),
        fullest=None if used is None else used / settings.GATEHOUSE_SPOOL_BYTES,
    )
