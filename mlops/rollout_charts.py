"""Charts of the rollout pages as Plotly documents; colours by role, as in ``mlops.charts``.

Evidence is drawn as a share of what proves it: 1 is proven. What is far beyond is cut off, the true number is said when
it is pointed at.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from mlops.gate_findings import number_of, part_of

Chart = dict[str, Any]
T = TypeVar("T")

HIGHEST, LOWEST = 1.5, -0.35
"""What is drawn of the evidence, in shares of what proves it."""
MOST_LOOKS = 240
"""Points of a curve; of more looks every second, third ... is drawn."""
FEW_TICKS = {"nticks": 4, "tickangle": 0}
"""Of a small chart over time: more would be written across each other."""
ARMS = {"champion": ("champion", "other"), "candidate": ("candidate", "line")}


@dataclass(frozen=True)
class Point:
    """A metric at one look: log e-values for harm and against it, and what proves either."""

    at: datetime
    look: int
    harm: float | None
    no_harm: float | None
    needed: float | None
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Mark:
    """When a step began, and what it is called."""

    at: datetime
    text: str


def thinned(looks: Sequence[T]) -> list[T]:
    """At most ``MOST_LOOKS`` of them, the last one always."""
    every = max(-(-len(looks) // MOST_LOOKS), 1)
    return [look for place, look in enumerate(looks) if (len(looks) - 1 - place) % every == 0]


def evidence(points: Sequence[Point], marks: Sequence[Mark] = ()) -> Chart | None:
    """The evidence of harm and of its absence over the looks, against the threshold; None without any."""
    drawn = [each for each in thinned(points) if each.needed and (each.harm is not None or each.no_harm is not None)]
    if not drawn:
        return None
    traces = [_curve("harm", drawn, "harm", "bad", "triangle-up")]
    if any(point.no_harm is not None for point in drawn):
        traces.append(_curve("no harm", drawn, "no_harm", "good", "circle"))
    shapes = [_across(1.0, "text-line"), *(_upright(mark.at) for mark in marks)]
    layout = {
        "height": 230,
        "shapes": shapes,
        "annotations": [_above(mark) for mark in marks],
        "yaxis": {
            "range": [LOWEST - 0.1, HIGHEST + 0.1],
            "tickvals": [0, 0.5, 1],
            "ticktext": ["0 ", "half ", "proven "],
            "zeroline": True,
        },
        "xaxis": FEW_TICKS,
        "showlegend": False,
        "margin": {"l": 54, "r": 12, "t": 20 if marks else 8, "b": 36},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _curve(name: str, points: Sequence[Point], field: str, tone: str, symbol: str) -> dict[str, Any]:
    known = [(point, value) for point in points if (value := getattr(point, field)) is not None]
    shares = [value / (point.needed or 1.0) for point, value in known]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": [point.at.isoformat() for point, _ in known],
        "y": [min(max(share, LOWEST), HIGHEST) for share in shares],
        "text": [f"look {point.look}: {value:.2f} where {point.needed:.2f} proves it" for point, value in known],
        "hovertemplate": f"{name}, %{{text}}<extra></extra>",
        "line": {"color": tone},
        "marker": {"color": tone, "symbol": symbol, "size": 6},
    }


def values(
    points: Sequence[Point], *, harm_from: float | None, tolerated: float | None, both_ways: bool
) -> Chart | None:
    """The measured value with its interval over the looks, against the two sizes of harm; None without any."""
    drawn = [point for point in thinned(points) if point.value is not None]
    if not drawn:
        return None
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [point.at.isoformat() for point in drawn],
        "y": [point.value for point in drawn],
        "text": [f"look {point.look}" for point in drawn],
        "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
        "marker": {"size": 5},
    }
    if any(point.low is not None and point.high is not None for point in drawn):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [(point.high - (point.value or 0.0)) if point.high is not None else 0.0 for point in drawn],
            "arrayminus": [((point.value or 0.0) - point.low) if point.low is not None else 0.0 for point in drawn],
            "thickness": 1,
            "width": 3,
        }
    limits = [(tolerated, "warn", "tolerated"), (harm_from, "bad", "rolls back")]
    if harm_from is not None and harm_from == tolerated:
        limits = limits[1:]
    lines = [
        (sign * limit, tone, text) for limit, tone, text in limits if limit is not None for sign in _signs(both_ways)
    ]
    layout = {
        "height": 210,
        "shapes": [_across(y, tone) for y, tone, _ in lines],
        "annotations": [_beside(y, text, tone) for y, tone, text in lines],
        "xaxis": FEW_TICKS,
        "showlegend": False,
        "margin": {"l": 54, "r": 12, "t": 8, "b": 36},
    }
    return {"data": [trace], "layout": layout}


def _signs(both_ways: bool) -> tuple[int, ...]:
    return (1, -1) if both_ways else (1,)


def histogram(drawn: Mapping[str, Any], *, title: str, is_time: bool = False) -> Chart | None:
    """Two samples in the same bins, each as shares of itself; None for a look that kept none."""
    edges, counts = drawn.get("edges"), part_of(drawn, "counts")
    if not isinstance(edges, list) or len(edges) < 2 or not counts:
        return None
    traces = [
        _bars(arm, edges, counts[arm], "ms" if is_time else "") for arm in ARMS if isinstance(counts.get(arm), list)
    ]
    layout = {
        "height": 260,
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": title}},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "showlegend": True,
        "legend": {"y": 1.02, "yanchor": "bottom", "x": 0},
        "margin": {"l": 48, "r": 12, "t": 34, "b": 44},
    }
    return {"data": traces, "layout": layout}


def _bars(arm: str, edges: Sequence[float], counts: Sequence[int], unit: str) -> dict[str, Any]:
    name, tone = ARMS[arm]
    every = sum(counts) or 1
    return {
        "type": "bar",
        "name": f"{name} ({sum(counts):,})",
        "x": [(low + high) / 2 for low, high in itertools.pairwise(edges)],
        "width": [high - low for low, high in itertools.pairwise(edges)],
        "y": [count / every for count in counts],
        "opacity": 0.55,
        "marker": {"color": tone},
        "hovertemplate": f"{name}: %{{y:.1%}} at %{{x:.3g}} {unit}<extra></extra>",
    }


def quantiles(found: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """(name, candidate's, champion's, difference) of the quantiles that a look kept."""
    rows = found.get("quantiles")
    kept = [row for row in rows if isinstance(row, list) and len(row) == 3] if isinstance(rows, list) else []
    return [(f"{100 * q:g} % are below", mine, theirs, mine - theirs) for q, mine, theirs in kept]


def distance(found: Mapping[str, Any]) -> float | None:
    return number_of(found, "distance")


def _across(y: float, tone: str) -> dict[str, Any]:
    line = {"color": "muted" if tone == "text-line" else tone, "dash": "dash", "width": 1.4}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def _upright(at: datetime) -> dict[str, Any]:
    line = {"color": "muted", "dash": "dot", "width": 1}
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": at.isoformat(), "x1": at.isoformat(), "line": line}


def _above(mark: Mark) -> dict[str, Any]:
    place = {"x": mark.at.isoformat(), "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left"}
    return {**place, "text": mark.text, "showarrow": False, "font": {"size": 10, "color": "muted"}}


def _beside(y: float, text: str, tone: str) -> dict[str, Any]:
    place = {"x": 1, "xref": "paper", "y": y, "xanchor": "right", "yanchor": "bottom", "showarrow": False}
    return {**place, "text": text, "font": {"size": 10, "color": tone}}
