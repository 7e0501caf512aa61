"""Charts as Plotly documents (data and layout). The browser draws them from the bundle that the plotly package ships.

Colours come from the page's style (light or dark), so none are fixed here but the roles: ``good``, ``bad``, ``line``,
``other``, which ``charts.js`` replaces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monitoring.models import DriftRun

Chart = dict[str, Any]

MOST_FEATURES = 12


def performance(runs: Sequence[DriftRun]) -> Chart | None:
    """AUC on matured outcomes per window with its interval, one trace a version; None without a measured window."""
    measured = [run for run in runs if _auc(run)]
    if not measured:
        return None
    traces = []
    for version in sorted({run.version_id for run in measured}):
        own = [run for run in measured if run.version_id == version]
        values = [_auc(run) for run in own]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"v{own[0].version.number}",
                "x": [run.window_to.isoformat() for run in own],
                "y": [value["estimate"] for value in values],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [value["high"] - value["estimate"] for value in values],
                    "arrayminus": [value["estimate"] - value["low"] for value in values],
                    "thickness": 1,
                },
                "text": [f"n = {run.rows}" for run in own],
            }
        )
    return {"data": traces, "layout": {"yaxis": {"title": {"text": "AUC with 95 % interval"}}, "height": 300}}


def _auc(run: DriftRun) -> Mapping[str, float]:
    """The window's AUC as an interval; empty where it was not measured."""
    return run.scores.get("roc_auc") or {}


def drift(runs: Sequence[DriftRun]) -> Chart | None:
    """How far each feature moved per window, most important features first; None without a window."""
    windows = [run for run in runs if run.scores.get("features")]
    if not windows:
        return None
    importance: dict[str, float] = {}
    for run in windows:
        for name, score in run.scores["features"].items():
            importance[name] = max(importance.get(name, 0.0), score.get("importance") or 0.0)
    names = sorted(importance, key=lambda name: importance[name], reverse=True)[:MOST_FEATURES]
    z = [[(run.scores["features"].get(name) or {}).get("effect") for run in windows] for name in names]
    heat = {
        "type": "heatmap",
        "x": [run.window_to.isoformat() for run in windows],
        "y": [f"{name} ({importance[name]:.0%})" for name in names],
        "z": z,
        "zmin": 0,
        "zmax": 0.5,
        "colorscale": "heat",
        "colorbar": {"title": {"text": "effect"}},
    }
    layout = {"height": 90 + 24 * len(names), "yaxis": {"autorange": "reversed"}, "margin": {"l": 10}}
    return {"data": [heat], "layout": layout}


def importance(shares: Mapping[str, Any]) -> Chart | None:
    """The most important features of a version; None when the registrant gave none."""
    numbers = {name: share for name, share in shares.items() if isinstance(share, int | float)}
    if not numbers:
        return None
    top = sorted(numbers.items(), key=lambda item: item[1])[-MOST_FEATURES:]
    bars = {"type": "bar", "orientation": "h", "x": [share for _, share in top], "y": [name for name, _ in top]}
    layout = {"height": 90 + 22 * len(top), "margin": {"l": 10}, "xaxis": {"tickformat": ".0%"}}
    return {"data": [bars], "layout": layout}
