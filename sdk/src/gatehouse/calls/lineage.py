"""The lineage: what something was made from, who uses something, what served when, what differs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from gatehouse.answers import read
from gatehouse.calls.addresses import Calls, below_model
from gatehouse.graphs import Graph, Impact, Served, VersionDiff
from gatehouse.showing import Rows


class LineageCalls(Calls):
    def backwards(self, key: str) -> Graph:
        """What a thing was made from, up to the sources.

        Keys: ``version:late-arrival/7``, ``prediction:endpoint/request_id``, ``incident:3``, ``run:12``,
        ``dataset:<digest>``, ``service:name@3`` and those that its nodes have.
        """
        return Graph.told(key, self._wire.get("lineage/backwards/", of=key))

    def forwards(
        self,
        *,
        column: str | None = None,
        source: str | None = None,
        dataset: str | None = None,
        feature: str | None = None,
        every_version: bool = False,
    ) -> Impact:
        """Which live versions use a column (``source.column``), a source, a feature (``view.feature``) or a dataset.

        ``every_version``: also those that serve nothing.
        """
        asked: dict[str, Any] = {
            "column": column,
            "source": source,
            "dataset": dataset,
            "feature": feature,
            "versions": "all" if every_version else "live",
        }
        return read(Impact, self._wire.get("lineage/forwards/", **asked))

    def as_of(self, moment: datetime | str | None = None) -> list[Served]:
        """What served at a moment (event time; now without one), who let it through, on which evidence."""
        at = moment.isoformat() if isinstance(moment, datetime) else moment
        return Rows(read(Served, row) for row in self._wire.get("lineage/as-of/", at=at)["served"])

    def diff(self, model: str, before: int, after: int) -> VersionDiff:
        """What version ``after`` has otherwise than ``before``."""
        return read(VersionDiff, self._wire.get(f"{below_model(model)}versions/{before}/diff/{after}/"))
