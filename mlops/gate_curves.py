"""Curves of a gate run as Plotly documents: ROC, precision and recall, calibration, residuals, with their intervals.

They come as ``gates.measure.curves`` makes them. What a run did not keep is not drawn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mlops.gate_charts import ABOVE, ARMS, Chart
from mlops.gate_findings import part_of

SHADES = {"line": "line-band", "other": "other-band"}
"""The interval around a curve is drawn in the curve's colour, faintly: the roles of ``charts.js`` with ``-band``."""

RANKING = frozenset({"roc_auc"})
PROBABILITIES = frozenset({"brier", "log_loss", "ece", "calibration_gap"})
KINDS = frozenset({"metric", "versus_champion"})


def of_check(kind: str, metric: str, curves: Mapping[str, Any]) -> Iterator[tuple[str, Chart, str]]:
    """The curves behind a check: which curve, its chart and its title. A run that drew none gives none."""
    if kind not in KINDS:
        return
    for name in _wanted(metric):
        draw, title = CURVES[name]
        if (chart := draw(part_of(curves, name), curves)) is not None:
            yield name, chart, title


def _wanted(metric: str) -> tuple[str, ...]:
    if metric in RANKING:
        return "roc", "scores"
    if metric in PROBABILITIES:
        return "calibration", "scores"
    return "pr", "scores", "predicted_vs_actual", "residuals"


def _line(curve: Mapping[str, Any], x: str, y: str, arm: str, **more: Any) -> list[dict[str, Any]]:
    """A curve of one version and, below it, the stretch of its interval."""
    name, tone = ARMS[arm]
    xs, ys, low, high = (curve.get(each) for each in (x, y, "low", "high"))
    if not isinstance(xs, list) or not isinstance(ys, list):
        return []
    drawn: list[dict[str, Any]] = []
    if isinstance(low, list) and isinstance(high, list):
        drawn.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [*xs, *reversed(xs)],
                "y": [*high, *reversed(low)],
                "fill": "toself",
                "fillcolor": SHADES[tone],
                "line": {"width": 0},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    line = {"type": "scatter", "name": name, "x": xs, "y": ys, "line": {"color": tone}, "marker": {"color": tone}}
    drawn.append({**line, "mode": "lines", **more})
    return drawn


def _curve(x: str, y: str, x_title: str, y_title: str, *, diagonal: bool = False, mode: str = "lines") -> Draw:
    """How curves of shares are drawn: both axes from 0 to 1."""

    def draw(found: Mapping[str, Any], curves: Mapping[str, Any]) -> Chart | None:
        arms = [arm for arm in ARMS if part_of(found, arm)]
        traces = [trace for arm in arms for trace in _line(part_of(found, arm), x, y, arm, mode=mode)]
        if not traces:
            return None
        layout: dict[str, Any] = {
            "height": 320,
            "xaxis": {"title": {"text": x_title}, "range": [-0.02, 1.02], "tickformat": ".0%"},
            "yaxis": {"title": {"text": y_title}, "range": [-0.02, 1.02], "tickformat": ".0%"},
            "showlegend": True,
            "legend": ABOVE,
            "margin": {"t": 34},
        }
        if diagonal:
            layout["shapes"] = [_diagonal(0, 1)]
        return {"data": traces, "layout": layout}

    return draw


def _diagonal(low: float, high: float) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": low,
        "y0": low,
        "x1": high,
        "y1": high,
        "line": {"dash": "dot", "color": "muted", "width": 1},
    }


def _predicted(found: Mapping[str, Any], curves: Mapping[str, Any]) -> Chart | None:
    """What came by what was predicted, in the label's unit."""
    arms = [arm for arm in ARMS if part_of(found, arm)]
    traces = [
        trace
        for arm in arms
        for trace in _line(part_of(found, arm), "predicted", "observed", arm, mode="lines+markers")
    ]
    values = [value for arm in arms for value in part_of(found, arm).get("predicted") or () if value is not None]
    if not traces or not values:
        return None
    layout = {
        "height": 320,
        "xaxis": {"title": {"text": "predicted"}},
        "yaxis": {"title": {"text": "what came, on average"}},
        "shapes": [_diagonal(min(values), max(values))],
        "showlegend": True,
        "legend": ABOVE,
        "margin": {"t": 34},
    }
    return {"data": traces, "layout": layout}


def _scores(found: Mapping[str, Any], curves: Mapping[str, Any]) -> Chart | None:
    """How this version's scores are spread over the two outcomes, and where the policy cuts them."""
    own = part_of(found, "candidate")
    edges = found.get("edges")
    if not isinstance(edges, list) or not own:
        return None
    words = {"negatives": ("it was not so", "muted"), "positives": ("it was so", "line")}
    traces = [_bars(edges, own[each], name, tone) for each, (name, tone) in words.items() if own.get(each)]
    cut = curves.get("threshold")
    shapes = [_upright(cut)] if isinstance(cut, int | float) else []
    layout = {
        "height": 320,
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": "score; from the line on it counts as a yes"}, "range": [0, 1]},
        "yaxis": {"title": {"text": "share of each outcome"}, "tickformat": ".0%"},
        "shapes": shapes,
        "showlegend": True,
        "legend": ABOVE,
        "margin": {"t": 34},
    }
    return {"data": traces, "layout": layout} if traces else None


def _residuals(found: Mapping[str, Any], curves: Mapping[str, Any]) -> Chart | None:
    """How far predictions lie from what came."""
    edges = found.get("edges")
    arms = [arm for arm in ARMS if isinstance(found.get(arm), list)]
    if not isinstance(edges, list) or not arms:
        return None
    layout = {
        "height": 320,
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {"title": {"text": "predicted too low ← → too high"}},
        "yaxis": {"title": {"text": "share of rows"}, "tickformat": ".0%"},
        "shapes": [_upright(0.0)],
        "showlegend": True,
        "legend": ABOVE,
        "margin": {"t": 34},
    }
    return {"data": [_bars(edges, found[arm], *ARMS[arm]) for arm in arms], "layout": layout}


def _bars(edges: Sequence[float], counts: Sequence[int], name: str, tone: str) -> dict[str, Any]:
    every = sum(counts) or 1
    return {
        "type": "bar",
        "name": name,
        "x": [(low + high) / 2 for low, high in itertools.pairwise(edges)],
        "width": [high - low for low, high in itertools.pairwise(edges)],
        "y": [count / every for count in counts],
        "opacity": 0.55,
        "marker": {"color": tone},
        "hovertemplate": f"{name}: %{{y:.1%}}<extra></extra>",
    }


def _upright(x: float) -> dict[str, Any]:
    return {
        "type": "line",
        "yref": "paper",
        "x0": x,
        "x1": x,
        "y0": 0,
        "y1": 1,
        "line": {"dash": "dash", "color": "muted", "width": 1.2},
    }


Draw = Callable[[Mapping[str, Any], Mapping[str, Any]], Chart | None]

CURVES: Mapping[str, tuple[Draw, str]] = {
    "roc": (_curve("fpr", "tpr", "false alarms", "real cases found", diagonal=True), "ROC curve"),
    "pr": (_curve("recall", "precision", "real cases found", "of those named, really so"), "Precision and recall"),
    "calibration": (
        _curve("predicted", "observed", "predicted", "really so", diagonal=True, mode="lines+markers"),
        "Calibration",
    ),
    "scores": (_scores, "Scores"),
    "predicted_vs_actual": (_predicted, "Predicted and actual"),
    "residuals": (_residuals, "Errors"),
}
