"""What stands below the row of each kind of check: the plots and tables that a person would rather look at.

Built from what was stored with the result. What an older run did not keep is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gates.models import CheckResult
from mlops import gate_charts
from mlops.gate_charts import Chart
from mlops.gate_findings import number_of, part_of, rows_of
from mlops.gate_words import per_cent
from monitoring.evidence import readable
from registry.measured import shown

Settings = Mapping[str, Any]
KNOWN = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, whether it is a number, and the tone of what is wrong."""

    text: str
    is_number: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Table:
    """A small table of a check's details."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    title: str = ""
    note: str = ""

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Each heading, and whether numbers stand below it."""
        numeric = [cell.is_number for cell in self.rows[0]] if self.rows else [False] * len(self.headings)
        return list(zip(self.headings, numeric, strict=False))


@dataclass(frozen=True)
class Plot:
    """A chart with the id that its JSON has in the page, and what it shows for who can not see it.

    Several checks may show the same one; only the first of them ``brings`` its JSON.
    """

    key: str
    chart: Chart
    title: str
    brings: bool = True


@dataclass
class Parts:
    """What a kind of check puts below its row."""

    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


def parts_of(result: CheckResult, settings: Settings) -> Parts:
    """Plots, tables and facts of one result; ``settings`` are those that its policy has for the check."""
    parts = Parts()
    detail = result.detail if isinstance(result.detail, Mapping) else {}
    SHOWN.get(result.kind, _other)(parts, detail, settings, result)
    return parts


def _key(result: CheckResult, name: str) -> str:
    return f"{name}-{result.check_id}"


def _draw(parts: Parts, result: CheckResult, name: str, chart: Chart | None, title: str) -> None:
    if chart is not None:
        parts.plots.append(Plot(_key(result, name), chart, title))


# ---------------------------------------------------------------------- a function a kind

Show = Callable[[Parts, Mapping[str, Any], Settings, CheckResult], None]


def _nothing(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    """A metric alone: its curves say the rest."""


def _other(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    parts.facts += [(name[:1].upper() + name[1:], text) for name, text in readable(detail)]


def _versus(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    for name, who in (("candidate_value", "This version alone"), ("champion_value", f"{detail.get('champion')} alone")):
        if (value := gate_charts.estimate(detail.get(name))) is not None:
            parts.facts.append((who, shown(value)))


def _slices(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    told = {"metric": settings.get("metric"), **detail}
    _draw(parts, result, "segments", gate_charts.segments(told), "Quality by segment")
    if found := rows_of(detail, "found"):
        rows = tuple(
            (Cell(str(each.get("condition"))), _number(each, "n"), _number(each, "value"), Cell(_between(each), True))
            for each in found
        )
        note = "Looked for because they are bad, so they are reported and never judged."
        parts.tables.append(
            Table(("Segment", "Rows", "Value", "Interval"), rows, "Worst segments that were found", note)
        )


def _fairness(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    _draw(parts, result, "groups", gate_charts.groups(detail), "Rates by group")
    found = rows_of(detail, "groups")
    if not found:
        return
    rows = tuple(
        (
            Cell(str(each.get("group"))),
            _number(each, "n"),
            *(_share(each, name) for name in ("base_rate", "selection_rate", "tpr", "fpr")),
            Cell("" if each.get("judged") else "too small to judge"),
        )
        for each in found
    )
    headings = ("Group", "Rows", "Base rate", "Selected", "Real cases found", "False alarms", "")
    note = "The base rate is how often it is really so in the group. Where it differs, rates may differ rightly."
    parts.tables.append(Table(headings, rows, f"By {detail.get('by', settings.get('by', 'group'))}", note))


def _latency(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    limits = {name: limit for name in KNOWN if (limit := number_of(settings, f"{name}_ms")) is not None}
    _draw(parts, result, "latencies", gate_charts.latencies(detail, limits), "How long single answers took")
    batch = part_of(detail, "batch")
    _quantiles(parts, detail, "One row")
    _quantiles(parts, batch, f"{shown(number_of(batch, 'rows') or 0)} rows at once")
    ratio = gate_charts.estimate(detail.get("ratio_to_champion"))
    if ratio is not None:
        low, high = (number_of(part_of(detail, "ratio_to_champion"), end) for end in ("low", "high"))
        between = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
        parts.facts.append(("Median against the champion's", f"{ratio:.2f} times{between}"))
    controls = part_of(detail, "control_ratio")
    told = [f"{ratio:.2f} at {name}" for name in KNOWN if (ratio := number_of(controls, name)) is not None]
    if told:
        of = detail.get("control_of", "same model")
        parts.facts.append(("Control", f"two copies of the {of} against each other: {', '.join(told)} (1 is steady)"))
    if (longest := number_of(detail, "longest_ms")) is not None:
        parts.facts.append(("Longest answer", f"{shown(longest)} ms"))


def _quantiles(parts: Parts, detail: Mapping[str, Any], title: str) -> None:
    arms = part_of(detail, "quantiles")
    rows = tuple(
        (Cell(gate_charts.ARMS.get(arm, (arm,))[0]), *(Cell(_milliseconds(part_of(each, q)), True) for q in KNOWN))
        for arm in arms
        if (each := part_of(arms, arm))
    )
    if rows:
        parts.tables.append(Table((title, "Half within", "95 % within", "99 % within"), rows))


def _milliseconds(measured: Mapping[str, Any]) -> str:
    value = gate_charts.estimate(measured)
    if value is None:
        return "—"
    between = _between(measured)
    return f"{shown(value)} ms{f' ({between})' if between else ''}"


def _robustness(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    parity = part_of(detail, "parity")
    served, registered = (part_of(detail, name).get("load_class") for name in ("served", "registered"))
    if (apart := number_of(parity, "max_difference")) is not None and parity.get("by") == "scores":
        told = f"at most {apart:.2g} apart on {shown(number_of(parity, 'rows') or 0)} rows"
        parts.facts.append((f"Served ({served}) and registered ({registered})", told))
    names = {"again": "Asked twice", "order": "Asked in another order", "alone": "Asked one by one"}
    for name, title in names.items():
        each = part_of(part_of(detail, "determinism"), name)
        if (differing := number_of(each, "differing")) is not None:
            told = f"{shown(differing)} of {shown(number_of(each, 'rows') or 0)} rows got another answer"
            parts.facts.append((title, told))
    for name, title in (("missing", "With one input missing"), ("strange", "With one input beyond anything seen")):
        _answered(parts, rows_of(detail, name), title, number_of(settings, "missing_values"))


def _answered(parts: Parts, found: Sequence[Mapping[str, Any]], title: str, share: float | None) -> None:
    """The inputs without which rows went unanswered; those that never matter are counted."""
    short = [each for each in found if (number_of(each, "answered") or 0) < (number_of(each, "rows") or 0)]
    if found and not short:
        parts.facts.append((title, f"every row was answered, for each of {len(found)} inputs"))
    rows = tuple(
        (Cell(str(each.get("column"))), _number(each, "answered"), _number(each, "rows"), Cell(str(each.get("said"))))
        for each in short
    )
    if rows:
        parts.tables.append(Table(("Input", "Answered", "Of rows", "What it said"), rows, title))


def _data_quality(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    for name, title in (("defects", "Wrong"), ("untold", "Can not be told")):
        if isinstance(told := detail.get(name), list) and told:
            parts.facts.append((title, "; ".join(map(str, told))))
    if (twice := number_of(detail, "duplicates")) is not None:
        parts.facts.append(("Duplicated rows", per_cent(round(twice, 4))))
    served = part_of(detail, "served")
    if (entities := number_of(served, "entities")) is not None:
        why = str(served.get("why") or "")
        parts.facts.append(("Looked at what is served", f"of {shown(entities)} entities" if entities else f"no: {why}"))
    if ignored := detail.get("ignored"):
        parts.facts.append(("Not looked at", ", ".join(map(str, ignored))))
    columns = sorted(rows_of(detail, "columns"), key=lambda each: (-_defects(each, settings), str(each.get("column"))))
    rows = tuple(_column(each, settings) for each in columns)
    if rows:
        headings = ("Feature", "Null", "Null in training", "Out of range", "New levels", "Missing as served", "Stale")
        parts.tables.append(Table(headings, rows, "Features, defects first"))


LIMITS_OF = {"null_increase": 0.2, "out_of_range": 0.05, "unseen": 0.02}
"""The measured shares of a column, and the limits where the policy names none."""


def _beyond(each: Mapping[str, Any], name: str, settings: Settings) -> bool:
    limit = number_of(settings, name)
    value = number_of(each, name)
    return value is not None and value > (LIMITS_OF[name] if limit is None else limit)


def _defects(each: Mapping[str, Any], settings: Settings) -> int:
    return sum(_beyond(each, name, settings) for name in LIMITS_OF)


def _column(each: Mapping[str, Any], settings: Settings) -> tuple[Cell, ...]:
    bad = {name: "bad" if _beyond(each, name, settings) else "" for name in LIMITS_OF}
    return (
        Cell(str(each.get("column"))),
        _share(each, "null_share", bad["null_increase"]),
        _share(each, "trained_null_share"),
        _share(each, "out_of_range", bad["out_of_range"]),
        _share(each, "unseen", bad["unseen"]),
        _share(each, "served_missing"),
        _share(each, "served_stale"),
    )


def _leakage(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    found = rows_of(detail, "features")
    drawn = [(str(each.get("feature")), {"value": each.get("alone"), **each}) for each in found]
    limit = number_of(settings, "alone_at_most")
    title = "AUC of the feature alone" if detail.get("measure", "auc") == "auc" else "squared rank correlation alone"
    _draw(parts, result, "alone", gate_charts.features(drawn, limit=limit, title=title), "How well each ranks alone")
    suspects = [each for each in found if each.get("is_suspect")]
    rows = tuple(
        (
            Cell(str(each.get("feature"))),
            _number(each, "alone"),
            _number(each, "on_holdout"),
            _share(each, "importance"),
            _share(each, "champion_importance"),
        )
        for each in suspects
    )
    if rows:
        headings = ("Feature", "Alone", "Alone on the holdout", "Importance here", "In the champion")
        parts.tables.append(Table(headings, rows, "Suspects"))
    late = [each for each in rows_of(detail, "in_time") if number_of(each, "late") or number_of(each, "different")]
    counts = ("late", "cells", "different", "compared")
    lines = tuple((Cell(str(each.get("feature"))), *(_number(each, name) for name in counts)) for each in late)
    if lines:
        headings = ("Feature", "Not there yet", "Of values", "Differ from then", "Of values")
        parts.tables.append(Table(headings, lines, "Newer than they claim"))


def _live_drift(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    found = rows_of(detail, "features")
    drawn = [(str(each.get("feature")), {"value": each.get("effect"), "low": each.get("low")}) for each in found]
    limit = number_of(settings, "effect_at_most")
    chart = gate_charts.features(drawn, limit=limit, title="how far it moved from the training data")
    _draw(parts, result, "drift", chart, "Drift per feature")
    rows = tuple(
        (
            Cell(str(each.get("feature"))),
            _number(each, "effect"),
            _share(each, "importance"),
            _share(each, "null_share"),
            _share(each, "trained_null_share"),
            _share(each, "unseen_share"),
        )
        for each in found
        if each.get("moved")
    )
    if rows:
        headings = ("Feature", "Moved by", "Importance", "Null now", "Null in training", "New levels")
        parts.tables.append(Table(headings, rows, "Features that moved"))
    if (requests := number_of(detail, "requests")) is not None:
        parts.facts.append(("Compared with", f"{shown(requests)} requests"))


def _training_data(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    names = {"trained_from": "Trained on rows from", "trained_to": "to", "holdout_from": "Holdout starts"}
    parts.facts += [
        (title, str(at)[:16].replace("T", " ")) for name, title in names.items() if (at := detail.get(name))
    ]
    if (positives := number_of(detail, "positives")) is not None:
        parts.facts.append(("Real cases among them", shown(positives)))


def _consistency(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    found = sorted(rows_of(detail, "features"), key=lambda each: -(number_of(each, "share") or 0.0))
    rows = tuple(
        (
            Cell(str(each.get("feature"))),
            _number(each, "differing"),
            _number(each, "cells"),
            _share(each, "share", "bad" if (number_of(each, "clean") or 0) < (number_of(each, "needed") or 0) else ""),
            _share(each, "limit"),
            Cell(str(each.get("at", ""))[:16].replace("T", " ")),
        )
        for each in found
    )
    if rows:
        parts.tables.append(Table(("Feature", "Differ", "Of values", "Share", "Allowed", "Audit of"), rows))
    if unserved := detail.get("unserved"):
        parts.facts.append(("Not served in that time", ", ".join(map(str, unserved))))


def _ci(parts: Parts, detail: Mapping[str, Any], settings: Settings, result: CheckResult) -> None:
    for name, title in (("code_digest", "Code"), ("commit", "Commit")):
        if said := detail.get(name):
            parts.facts.append((title, str(said)))
    reports = part_of(part_of(result.measured, "reports"), str(settings.get("commit", "any")))
    rows = tuple(
        (
            Cell(kind),
            Cell(str(each.get("verdict")), tone="bad" if each.get("verdict") != "passed" else ""),
            Cell(str(each.get("summary"))),
            Cell(str(each.get("submitted_at"))[:16].replace("T", " ")),
        )
        for kind in reports
        if (each := part_of(reports, kind))
    )
    if rows:
        parts.tables.append(Table(("Report", "Verdict", "What it says", "Submitted"), rows, "Reports about this code"))


SHOWN: Mapping[str, Show] = {
    "metric": _nothing,
    "versus_champion": _versus,
    "slice": _slices,
    "fairness": _fairness,
    "latency": _latency,
    "robustness": _robustness,
    "ci_evidence": _ci,
    "data_quality": _data_quality,
    "training_data": _training_data,
    "leakage": _leakage,
    "live_drift": _live_drift,
    "feature_consistency": _consistency,
}


# ---------------------------------------------------------------------- cells


def _number(each: Mapping[str, Any], name: str) -> Cell:
    value = gate_charts.estimate(each.get(name))
    return Cell("—" if value is None else shown(value), True)


def _share(each: Mapping[str, Any], name: str, tone: str = "") -> Cell:
    value = number_of(each, name)
    return Cell("—" if value is None else per_cent(round(value, 4)), True, tone)


def _between(each: Mapping[str, Any]) -> str:
    low, high = number_of(each, "low"), number_of(each, "high")
    return "" if low is None or high is None else f"{shown(low)} to {shown(high)}"
