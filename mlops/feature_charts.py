"""Charts of the feature catalogue as Plotly documents; colours by role, as in ``mlops.charts``."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from features.models import ConsistencyCheck, FeatureStatistics

Chart = dict[str, Any]

SMALL = {"height": 170, "margin": {"l": 44, "r": 8, "t": 8, "b": 34}, "showlegend": False, "bargap": 0.04}
MOST_NULLS = 5
"""How many features' null shares are drawn beside the coverage: those that are null most often."""


def consistency(checks: Sequence[ConsistencyCheck], *, limit: float) -> Chart | None:
    """Share of served cells that differ from their recomputation per check, oldest first, against the limit."""
    if not checks:
        return None
    shares = [check.share for check in checks]
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [check.at.isoformat() for check in checks],
        "y": shares,
        "text": [f"{check.differing} of {check.cells} cells" for check in checks],
        "hovertemplate": "%{y:.3%}<br>%{text}<extra></extra>",
    }
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": limit, "y1": limit}
    # without a floor a line of zeros would be drawn in the middle of nothing
    top = max(*shares, 1.5 * limit, 0.001)
    layout = {
        "height": 240,
        "shapes": [{**line, "line": {"dash": "dash", "color": "bad"}}],
        "yaxis": {"tickformat": ".2%", "range": [-0.04 * top, 1.1 * top], "title": {"text": "cells that differ"}},
    }
    return {"data": [trace], "layout": layout}


def history(described: Sequence[FeatureStatistics]) -> Chart | None:
    """Coverage, and the null shares of the features that are null most often, over time; ``described`` oldest first."""
    days = [each for each in described if each.entities]
    if len(days) < 2:
        return None
    x = [each.at.isoformat() for each in days]
    traces = [_line("coverage", x, [each.alive / each.entities for each in days])]
    nulls = {name: [(each.features.get(name) or {}).get("nulls") for each in days] for name in days[-1].features}
    worst = sorted(nulls, key=lambda name: -(nulls[name][-1] or 0.0))[:MOST_NULLS]
    traces += [_line(f"nulls of {name}", x, nulls[name], dash="dot") for name in worst if nulls[name][-1]]
    axis = {"tickformat": ".0%", "range": [-0.03, 1.05]}
    return {"data": traces, "layout": {"height": 260, "yaxis": axis, "showlegend": True}}


def _line(name: str, x: Sequence[str], y: Sequence[float | None], *, dash: str = "solid") -> dict[str, Any]:
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": {"dash": dash}}


def spread(described: Mapping[str, Any]) -> Chart | None:
    """The values of one feature (``features.distribution``) as bars; None where there are none."""
    if bins := described.get("bins"):
        return _histogram(bins["edges"], bins["counts"])
    if top := described.get("top"):
        return _frequencies(top)
    return None


def _histogram(edges: Sequence[Any], counts: Sequence[int]) -> Chart:
    if len(counts) == 1:
        bars: dict[str, Any] = {"type": "bar", "x": [_shown(edges[0])], "y": counts, "width": 0.2}
        return {"data": [bars], "layout": {**SMALL, "xaxis": {"type": "category"}}}
    is_time = isinstance(edges[0], str)
    bars = {"type": "bar", "x": list(edges[:-1]), "y": list(counts), "offset": 0}
    if not is_time:
        bars["width"] = [end - start for start, end in itertools.pairwise(edges)]
    return {"data": [{**bars, "hovertemplate": "%{x}: %{y}<extra></extra>"}], "layout": dict(SMALL)}


def _frequencies(top: Sequence[Sequence[Any]]) -> Chart:
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [count for _, count in top],
        "y": [_shown(value) for value, _ in top],
    }
    axis = {"autorange": "reversed", "type": "category", "ticklabeloverflow": "hide past div"}
    return {"data": [bars], "layout": {**SMALL, "height": 60 + 22 * max(len(top), 4), "yaxis": axis}}


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 24 else text[:23] + "…"
