"""Charts of the gate report as Plotly documents; colours by role, as in ``mlops.charts``.

Curves, segments, groups and histograms come from the run as JSON that an older run may lack: then there is no chart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlops.gate_findings import number_of, part_of, rows_of, segment
from mlops.gate_words import METRICS

Chart = dict[str, Any]

ABOVE = {"y": 1.02, "yanchor": "bottom", "x": 0}
"""A legend above the plot: below it stands the axis' title."""
ROW = 26
"""Height of a line of a dot plot in pixels."""
MOST_LINES = 30
ARMS = {"candidate": ("this version", "line"), "champion": ("champion", "other"), "control": ("control", "muted")}


@dataclass(frozen=True)
class Dot:
    """A measured number with its interval on one line of a dot plot; ``tone`` is a colour role."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    tone: str = "line"


def dots(series: Mapping[str, Sequence[Dot]], *, labels: Sequence[str], title: str, tickformat: str = "") -> Chart:
    """Numbers with intervals, a line each, one series beside the other; ``labels`` from top to bottom."""
    traces = []
    for name, each in series.items():
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [dot.value for dot in each],
            "y": [dot.label for dot in each],
            "text": [dot.note for dot in each],
            "hovertemplate": "%{y}: %{x}<br>%{text}<extra></extra>",
            "marker": {"size": 9, "color": each[0].tone if each else "line"},
        }
        if any(dot.low is not None or dot.high is not None for dot in each):
            trace["error_x"] = _whiskers(each)
        traces.append(trace)
    axis = {"title": {"text": title}, "zeroline": False} | ({"tickformat": tickformat} if tickformat else {})
    lines = {"autorange": "reversed", "type": "category", "categoryorder": "array", "categoryarray": list(labels)}
    layout = {
        "height": 96 + ROW * max(len(labels), 2),
        "xaxis": axis,
        "yaxis": lines,
        "showlegend": len(traces) > 1,
        "legend": ABOVE,
        "margin": {"l": 10, "t": 34 if len(traces) > 1 else 14},
    }
    return {"data": traces, "layout": layout}


def _whiskers(series: Sequence[Dot]) -> dict[str, Any]:
    above = [dot.high - dot.value if dot.high is not None else 0.0 for dot in series]
    below = [dot.value - dot.low if dot.low is not None else 0.0 for dot in series]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.4, "width": 4}


def _limit(x: float, *, tone: str = "bad", dash: str = "dash") -> dict[str, Any]:
    """A line across the plot at ``x``."""
    line = {"color": tone, "dash": dash, "width": 1.4}
    return {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": line}


# ---------------------------------------------------------------------- by segment, by group


def segments(detail: Mapping[str, Any], *, margin: float | None = None) -> Chart | None:
    """The metric in each segment against all rows; what is clearly worse is red, what is too small is grey."""
    found = [each for each in rows_of(detail, "segments") if number_of(each, "value") is not None]
    found = sorted(found, key=_badness)[:MOST_LINES]
    if not found:
        return None
    tones = {"failed": ("clearly worse", "bad"), "passed": ("not clearly worse", "line")}
    series: dict[str, list[Dot]] = {}
    for each in found:
        name, tone = tones.get(str(each.get("verdict")), ("too few rows to judge", "muted"))
        label = _segment_label(each)
        value = number_of(each, "value") or 0.0
        dot = Dot(label, value, number_of(each, "low"), number_of(each, "high"), _p(each), tone)
        series.setdefault(name, []).append(dot)
    labels = [_segment_label(each) for each in found]
    metric = METRICS.get(str(detail.get("metric")), "value")
    chart = dots(series, labels=labels, title=f"{metric} with interval; dotted: all rows")
    overall = estimate(detail.get("overall"))
    if overall is not None:
        chart["layout"]["shapes"] = [_limit(overall, tone="muted", dash="dot")]
    return chart


def _segment_label(each: Mapping[str, Any]) -> str:
    return f"{segment(each)} ({_rows(each)} rows)"


def _rows(each: Mapping[str, Any]) -> str:
    return f"{number_of(each, 'n') or 0:,.0f}"


def _badness(each: Mapping[str, Any]) -> tuple[bool, float]:
    worse = number_of(each, "worse_by")
    return each.get("verdict") != "failed", -(worse if worse is not None else float("-inf"))


def _p(each: Mapping[str, Any]) -> str:
    p = number_of(each, "p_holm")
    return "" if p is None else f"p = {p:.3g} after Holm's correction"


def estimate(measured: Any) -> float | None:
    """The estimate of a number that may come with its interval."""
    if isinstance(measured, Mapping):
        return next((found for name in ("estimate", "value") if (found := number_of(measured, name)) is not None), None)
    return float(measured) if isinstance(measured, int | float) and not isinstance(measured, bool) else None


RATES = {
    "selection_rate": ("selected", "line"),
    "tpr": ("real cases found", "line"),
    "fpr": ("false alarms", "warn"),
    "base_rate": ("base rate: how often it is really so", "muted"),
}


def groups(detail: Mapping[str, Any]) -> Chart | None:
    """The rates that a fairness check compares, by group with intervals, and the base rates beside them."""
    measure = str(detail.get("measure"))
    rates = ["selection_rate"] if "parity" in measure else ["tpr"]
    rates += ["fpr"] if "odds" in measure else []
    found = [each for each in rows_of(detail, "groups") if number_of(each, "base_rate") is not None][:MOST_LINES]
    if not found:
        return None
    series: dict[str, list[Dot]] = {}
    for rate in [*rates, "base_rate"]:
        name, tone = RATES[rate]
        series[name] = [_rate(each, rate, tone) for each in found if number_of(each, rate) is not None]
    labels = [_group_label(each) for each in found]
    chart = dots({name: each for name, each in series.items() if each}, labels=labels, title="", tickformat=".0%")
    for trace in chart["data"]:
        if trace["name"] == RATES["base_rate"][0]:
            trace["marker"]["symbol"] = "diamond-open"
    chart["layout"]["height"] += 20
    return chart


def _group_label(each: Mapping[str, Any]) -> str:
    aside = "" if each.get("judged") else ", too small to judge"
    return f"{each.get('group')} ({_rows(each)} rows{aside})"


def _rate(each: Mapping[str, Any], rate: str, tone: str) -> Dot:
    between = part_of(each, "intervals").get(rate)
    low, high = between if isinstance(between, list | tuple) and len(between) == 2 else (None, None)
    return Dot(_group_label(each), number_of(each, rate) or 0.0, low, high, RATES[rate][0], tone)


# ---------------------------------------------------------------------- how long answers take


def latencies(detail: Mapping[str, Any], limits: Mapping[str, float]) -> Chart | None:
    """How long single answers took, by arm, with the limits; None for a run that kept no histogram."""
    histogram = part_of(detail, "histogram")
    edges, counts = histogram.get("edges"), part_of(histogram, "counts")
    if not isinstance(edges, list) or len(edges) < 2 or not counts:
        return None
    traces = [_bars(arm, edges, counts[arm]) for arm in ARMS if isinstance(counts.get(arm), list)]
    top = max((max(trace["y"]) for trace in traces), default=0.0)
    drawn = {name: limit for name, limit in limits.items() if name in ("p50", "p95", "p99")}
    layout = {
        "height": 320,
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": "milliseconds for one row"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "share of calls"}, "tickformat": ".0%", "range": [0, 1.16 * top or 1]},
        "shapes": [_limit(limit) for limit in drawn.values()],
        "annotations": [_named(limit, f"limit of {name}") for name, limit in drawn.items()],
        "showlegend": True,
        "legend": {**ABOVE, "y": 1.1},
        "margin": {"t": 52},
    }
    return {"data": traces, "layout": layout}


def _bars(arm: str, edges: Sequence[float], counts: Sequence[int]) -> dict[str, Any]:
    name, tone = ARMS[arm]
    every = sum(counts) or 1
    return {
        "type": "bar",
        "name": name,
        "x": [(low + high) / 2 for low, high in itertools.pairwise(edges)],
        "width": [high - low for low, high in itertools.pairwise(edges)],
        "y": [count / every for count in counts],
        "opacity": 0.55,
        "marker": {"color": tone},
        "hovertemplate": f"{name}: %{{y:.1%}} at %{{x:.3g}} ms<extra></extra>",
    }


def _named(x: float, text: str) -> dict[str, Any]:
    place = {"x": x, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False}
    return {**place, "text": text, "font": {"color": "bad", "size": 11}}


# ---------------------------------------------------------------------- one number a feature


def features(rows: Sequence[tuple[str, Mapping[str, Any]]], *, limit: float | None, title: str) -> Chart | None:
    """A measured number per feature with its interval, highest first, against the limit."""
    measured = [(name, each, value) for name, each in rows if (value := estimate(each)) is not None]
    measured = sorted(measured, key=lambda row: -row[2])[:MOST_LINES]
    if not measured:
        return None
    found: dict[str, list[Dot]] = {}
    for name, each, value in measured:
        low = number_of(each, "low")
        beyond = limit is not None and (low if low is not None else value) > limit
        dot = Dot(name, value, low, number_of(each, "high"), "", "bad" if beyond else "line")
        found.setdefault("beyond the limit" if beyond else "within", []).append(dot)
    chart = dots(found, labels=[name for name, _, _ in measured], title=title)
    if limit is not None:
        chart["layout"]["shapes"] = [_limit(limit)]
    return chart


# ---------------------------------------------------------------------- the small picture of a row


@dataclass(frozen=True)
class Whisker:
    """A value with its interval and the bar it has to clear, as places on a line of ``WIDTH`` units.

    ``bar`` is the limit, ``good`` the stretch on its right side.
    """

    low: float
    high: float
    value: float
    bar: float
    good_from: float
    good_width: float

    WIDTH = 120.0


def whisker(
    value: float | None, low: float | None, high: float | None, *, bar: float | None, at_least: bool
) -> Whisker | None:
    """The picture of a measured number against its bar; None without an interval or a bar."""
    if value is None or low is None or high is None or bar is None:
        return None
    least, most = min(low, bar), max(high, bar)
    room = (most - least) * 0.18 or abs(bar) * 0.1 or 1.0
    left, width = least - room, most - least + 2 * room

    def place(x: float) -> float:
        return round((x - left) / width * Whisker.WIDTH, 1)

    at = place(bar)
    good_from, good_width = (at, Whisker.WIDTH - at) if at_least else (0.0, at)
    return Whisker(place(low), place(high), place(value), at, good_from, round(good_width, 1))
