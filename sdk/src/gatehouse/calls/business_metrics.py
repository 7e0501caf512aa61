"""What the product wants of an endpoint beside the model's own metrics."""

from __future__ import annotations

from datetime import timedelta

from gatehouse.answers import BusinessMetric, read
from gatehouse.calls.addresses import Calls, named
from gatehouse.showing import Rows


class BusinessMetricCalls(Calls):
    def business_metrics(self, endpoint: str, *, retired: bool | None = None) -> list[BusinessMetric]:
        """Newest first; ``retired`` False: those in force."""
        asked = None if retired is None else str(retired).lower()
        return Rows(read(BusinessMetric, row) for row in self._wire.pages(_below(endpoint), retired=asked))

    def define_business_metric(
        self,
        endpoint: str,
        name: str,
        *,
        title: str,
        per: str,
        better: str,
        window: timedelta,
        missing: str,
        tolerated_harm: float,
        harm_from: float = 0.0,
        unit: str = "",
        is_heavy_tailed: bool = False,
        guards: bool = True,
        reason: str = "",
    ) -> BusinessMetric:
        """Judge canaries by it that begin from now on. ``per``: prediction or entity; ``better``: higher or lower;
        ``missing``: what it means that nothing was reported, zero or unknown. One of this name is replaced."""
        body = {
            "name": name,
            "title": title,
            "unit": unit,
            "per": per,
            "better": better,
            "window_seconds": window.total_seconds(),
            "missing": missing,
            "is_heavy_tailed": is_heavy_tailed,
            "harm_from": harm_from,
            "tolerated_harm": tolerated_harm,
            "guards": guards,
            "reason": reason,
        }
        return read(BusinessMetric, self._wire.post(_below(endpoint), body))

    def retire_business_metric(self, endpoint: str, name: str, *, reason: str) -> BusinessMetric:
        return read(BusinessMetric, self._wire.post(f"{_below(endpoint)}{named(name)}/retire/", {"reason": reason}))


def _below(endpoint: str) -> str:
    return f"endpoints/{named(endpoint)}/business-metrics/"
