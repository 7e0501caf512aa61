"""What became of it: deployment history, monitoring, incidents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from audit.models import Event
from features.models import FeatureViewVersion
from mlops.dossier.case import Case
from mlops.dossier.fields import Section, duration, moment, said, table, told
from mlops.dossier.log import Log, evidence, first, last
from monitoring.config import MonitorSettings
from monitoring.models import DriftKind, DriftRun, Incident, Monitor, Retraining
from rollout.models import AnalysisRun

JUDGED_WINDOWS = ("window.judged", "drift.confirmed", "decay.confirmed")
WITHDRAWN = ("rollout.rolled_back", "rollout.aborted")
SHOWN_WINDOWS = 60
"""A table of windows shows the newest; their count and verdicts cover all."""


def deployment(case: Case) -> Section:
    """Where it was let in, how far it came, how long it served, and why it left."""
    way = [event for _, event in case.way]
    ended = [(rollout, event) for rollout, event in case.way if event.name in WITHDRAWN]
    return Section(
        "deployment",
        "Deployment history",
        (
            "EU AI Act Art. 12: record-keeping",
            "ISO/IEC 42001 A.6.2.5: deployment",
            "SR 26-2: implementation and use",
        ),
        (
            told("rollouts", "Rollouts", _rollouts(case), evidence(*way)),
            told("steps", "Every step, with the share of traffic", _steps(case), evidence(*way)),
            told("looks", "Looks at the evidence", *_looks(case)),
            told("champion", "Times as champion", *_periods(case)),
            told("serves", "Serves at this position", "yes" if case.serves else "no", *_since(case)),
            told("largest_share", "Largest share of traffic as a candidate", _largest_share(way), evidence(*way)),
            told("withdrawals", "Rolled back or aborted, and why", *_withdrawals(case, ended)),
        ),
    )


def _rollouts(case: Case) -> object:
    rows = []
    for rollout in case.rollouts:
        events = case.log.about(rollout)
        state = case.log.state(rollout, initial="pending")
        incumbent = next((event.data["incumbent"] for event in reversed(events) if event.data.get("incumbent")), None)
        against = f"v{incumbent}" if incumbent else "nothing"
        rows.append((rollout.endpoint.name, against, state, moment(events[0].at), moment(events[-1].at)))
    return table(("Endpoint", "Against", "State", "Proposed", "Last step"), rows, none="none")


def _steps(case: Case) -> object:
    rows = [
        (moment(event.at), rollout.endpoint.name, _what(event), _share(event), case.log.author(event), event.reason)
        for rollout, event in case.way
    ]
    return table(("At", "Endpoint", "What", "Share", "By", "Why"), rows, none="none")


def _what(event: Event) -> str:
    step = f" {event.data['step']}" if event.name == "rollout.canary" and "step" in event.data else ""
    return event.name.removeprefix("rollout.").replace("_", " ") + step


def _share(event: Event) -> str:
    if event.name == "rollout.canary" and "share" in event.data:
        return f"{event.data['share']:.4g}"
    return {"rollout.shadow": "0 (unseen)", "rollout.promoted": "1"}.get(event.name, "")


def _looks(case: Case) -> tuple[object, list[str]]:
    """Those that had been written when the last event of their rollout was: events count them."""
    rows: list[tuple[Any, ...]] = []
    proof: list[str] = []
    for rollout in case.rollouts:
        counted = [event for event in case.log.about(rollout) if "looks" in event.data]
        written = counted[-1].data["looks"] if counted else 0
        looks: list[AnalysisRun] = list(rollout.analyses.filter(number__lte=written).order_by("number"))
        proof += evidence(*counted[-1:])
        rows += [
            (rollout.endpoint.name, each.stage, each.step or "", conclusion, count, moment(each.at), each.summary)
            for each, conclusion, count in _told_apart(looks)
        ]
    columns = ("Endpoint", "Stage", "Step", "Conclusion", "Looks", "Last at", "In a sentence")
    return table(columns, rows, none="none was needed"), proof


def _told_apart(looks: Sequence[AnalysisRun]) -> list[tuple[AnalysisRun, str, int]]:
    """Neighbouring looks of one stage, step and conclusion as one line: its last look, and how many there were."""
    lines: list[tuple[AnalysisRun, str, int]] = []
    for look in looks:
        before = lines[-1] if lines else None
        same = before is not None and (before[0].stage, before[0].step, before[1]) == (
            look.stage,
            look.step,
            look.conclusion,
        )
        if same and before is not None:
            lines[-1] = (look, look.conclusion, before[2] + 1)
        else:
            lines.append((look, look.conclusion, 1))
    return lines


def _periods(case: Case) -> tuple[object, list[str]]:
    rows, proof = [], []
    for period in case.periods:
        until = period.ended.at if period.ended else None
        lasted = (until or case.log.at) - period.began.at
        by = case.log.author(period.began)
        rows.append((moment(period.began.at), moment(until) or "at this position", duration(lasted), by))
        proof += evidence(period.began, period.ended)
    return table(("From", "To", "For", "Crowned by"), rows, none="never"), proof


def _since(case: Case) -> tuple[list[str]]:
    period = case.periods[-1] if case.periods else None
    return (evidence(period.began, period.ended) if period else evidence(case.registered),)


def _largest_share(way: Sequence[Event]) -> float:
    shares = (event.data.get("share", 0.0) for event in way if event.name == "rollout.canary")
    return max(shares, default=0.0)


def _withdrawals(case: Case, ended: Sequence[tuple[Any, Event]]) -> tuple[object, list[str]]:
    rows = [
        (rollout.endpoint.name, _what(event), moment(event.at), case.log.author(event), event.reason)
        for rollout, event in ended
    ]
    return table(("Endpoint", "What", "At", "By", "Why"), rows, none="never"), evidence(*(event for _, event in ended))


# ---------------------------------------------------------------------- monitoring


def monitoring(case: Case) -> Section:
    """What was watched since it serves, how strictly, and what was found."""
    windows = _windows(case)
    drift = [each for each in windows if each[0].kind == DriftKind.DRIFT]
    performance = [each for each in windows if each[0].kind == DriftKind.PERFORMANCE]
    watched = evidence(*(event for _, event in windows))
    settings, configured = _settings(case)
    return Section(
        "monitoring",
        "Monitoring",
        (
            "EU AI Act Art. 72: post-market monitoring",
            "ISO/IEC 42001 A.6.2.6: operation and monitoring",
            "NIST AI RMF MANAGE 4.1: post-deployment monitoring",
            "SR 26-2: ongoing monitoring, risk-based",
        ),
        (
            told("monitor", "Watched with", settings, configured),
            told("monitor_changes", "Changes of the monitor", *_monitor_changes(case)),
            told("drift_windows", "Windows judged for drift", _verdicts(drift), watched),
            told("drift_last", "Last word on drift", drift[-1][0].summary if drift else "none yet", watched[-1:]),
            told("drift", "Drift, window by window", _table(drift), evidence(*(event for _, event in drift))),
            told("performance_windows", "Windows judged on outcomes", _verdicts(performance), watched),
            told("performance_last", "Last word on performance", _last_word(performance), watched[-1:]),
            told(
                "performance",
                "Performance, window by window",
                _table(performance),
                evidence(*(event for _, event in performance)),
            ),
            told("confirmed", "Confirmed drift and decay", *_confirmed(case, windows)),
            told("data_quality", "Broken input data", *_broken(windows)),
            told("consistency", "Served values that differed from training", *_breaches(case)),
            told("alerts", "Alerts (incidents raised)", len(case.incidents), _opened(case)),
            told("acknowledged", "Time until acknowledged, median", _median(case, "acknowledged"), _opened(case)),
            told("retrainings", "Retrainings that it caused", *_retrainings(case)),
        ),
    )


def _monitor_events(case: Case) -> list[Event]:
    return [event for event in case.log.of_kind(Monitor._meta.label_lower) if event.name == "monitor.configured"]


def _settings(case: Case) -> tuple[object, list[str]]:
    """The settings in force, those left out with their defaults of this generator."""
    events = _monitor_events(case)
    if not events:
        return "not watched", []
    settings = MonitorSettings.model_validate(events[-1].data["after"]).model_dump(mode="json")
    rows = [
        (name, value or "none" if isinstance(value, list | dict) else value) for name, value in sorted(settings.items())
    ]
    return table(("Setting", "Value"), rows, none="none"), evidence(events[-1])


def _monitor_changes(case: Case) -> tuple[object, list[str]]:
    events = _monitor_events(case)
    rows = [(moment(event.at), case.log.author(event), event.reason, event.data["after"] or "none") for event in events]
    return table(("At", "By", "Why", "Settings that differ from the defaults"), rows, none="none"), evidence(*events)


def _windows(case: Case) -> list[tuple[DriftRun, Event]]:
    """Windows of this version that the log tells of, oldest first."""
    events = {}
    for event in case.log.named(*JUDGED_WINDOWS):
        if "drift_run" in event.data:
            events[int(event.data["drift_run"])] = event
    rows = DriftRun.objects.filter(version=case.version, pk__in=events).order_by("window_to", "kind", "id")
    return [(row, events[row.pk]) for row in rows]


def _verdicts(windows: Sequence[tuple[DriftRun, Event]]) -> str:
    if not windows:
        return "none yet"
    counts: dict[str, int] = {}
    for run, _ in windows:
        counts[run.verdict] = counts.get(run.verdict, 0) + 1
    told_apart = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    return f"{len(windows)}: {told_apart}"


def _last_word(windows: Sequence[tuple[DriftRun, Event]]) -> str:
    return windows[-1][0].summary if windows else "none yet"


def _table(windows: Sequence[tuple[DriftRun, Event]]) -> object:
    rows = [
        (moment(run.window_from), moment(run.window_to), run.rows, run.verdict, run.confirmed, run.summary)
        for run, _ in windows[-SHOWN_WINDOWS:]
    ]
    return table(("From", "To", "Rows", "Verdict", "Confirmed", "In a sentence"), rows, none="none yet")


def _confirmed(case: Case, windows: Sequence[tuple[DriftRun, Event]]) -> tuple[object, list[str]]:
    found = [(run, event) for run, event in windows if event.name in ("drift.confirmed", "decay.confirmed")]
    rows = [(moment(event.at), run.kind, event.reason) for run, event in found]
    return table(("At", "Kind", "What"), rows, none="none"), evidence(*(event for _, event in found))


def _broken(windows: Sequence[tuple[DriftRun, Event]]) -> tuple[object, list[str]]:
    found = [(run, event) for run, event in windows if run.scores.get("is_broken")]
    rows = [(moment(run.window_to), "; ".join(run.scores.get("problems", ()))) for run, _ in found]
    return table(("Window to", "Problems"), rows, none="none"), evidence(*(event for _, event in found))


def _breaches(case: Case) -> tuple[object, list[str]]:
    service = case.version.service
    views: list[FeatureViewVersion] = (
        list({each.view_version_id: each.view_version for each in service.pinned()}.values()) if service else []
    )
    events = case.log.about_many(views, name="consistency.breached")
    rows = [(event.subject_label, moment(event.at), event.reason) for event in events]
    return table(("View version", "At", "What"), rows, none="none"), evidence(*events)


def _opened(case: Case) -> list[str]:
    return evidence(*(case.log.about(incident)[0] for incident in case.incidents))


def _retrainings(case: Case) -> tuple[object, list[str]]:
    """Retrainings that were started while it was champion."""
    rows: list[tuple[Any, ...]] = []
    proof: list[str] = []
    for retraining in Retraining.objects.filter(champion_before=case.version).order_by("id"):
        events = case.log.about(retraining)
        if not events:
            continue
        proof += evidence(*events)
        state = case.log.state(retraining, initial="training")
        rows.append((retraining.pk, retraining.cause_kind, moment(events[0].at), state, events[-1].reason))
    return table(("Retraining", "Cause", "Started", "State", "Last word"), rows, none="none"), proof


# ---------------------------------------------------------------------- incidents


def incidents(case: Case) -> Section:
    """What went wrong with it, who took it, how it ended."""
    every = [event for incident in case.incidents for event in case.log.about(incident)]
    return Section(
        "incidents",
        "Incidents",
        (
            "EU AI Act Art. 20: corrective actions",
            "EU AI Act Art. 73: serious incidents",
            "ISO/IEC 42001 A.8.4: communication of incidents",
            "NIST AI RMF MANAGE 4.3: incidents communicated and tracked",
        ),
        (
            told("count", "Incidents", len(case.incidents), _opened(case)),
            told("unresolved", "Not resolved at this position", _unresolved(case), _opened(case)),
            told("list", "Incidents, one by one", _incidents(case), evidence(*every)),
            told("timeline", "Timeline", timeline(case.log, every), evidence(*every)),
            told("detected", "Time until detected, median", _median(case, "detected"), _opened(case)),
            told("resolved", "Time until resolved, median", _median(case, "resolved"), evidence(*every)),
            told("answers", "Closed because", *_closed(case)),
            said("reportability", "Reportable to an authority", None),
        ),
    )


def _unresolved(case: Case) -> int:
    return sum(case.log.state(each, initial="open") != "resolved" for each in case.incidents)


def _incidents(case: Case) -> object:
    rows = []
    for each in case.incidents:
        opened = case.log.about(each)[0]
        times = Times.of(each, case.log)
        rows.append(
            (
                each.pk, each.kind, title(each, case.log), opened.data.get("severity", ""),
                case.log.state(each, initial="open"), moment(opened.at), times.acknowledged, times.resolved,
            )
        )  # fmt: skip
    columns = ("Id", "Kind", "What", "Severity", "State", "Opened", "Acknowledged after", "Resolved after")
    return table(columns, rows, none="none recorded")


def title(incident: Incident, log: Log) -> str:
    """As it was opened: it is written anew when the cause is seen again."""
    opened = log.about(incident)[0]
    return str(opened.data.get("title", opened.subject_label))


def timeline(log: Log, events: Sequence[Event]) -> object:
    """Events one by one, in the log's order."""
    ordered = sorted({event.pk: event for event in events}.values(), key=lambda event: event.link.position)
    rows = [(moment(event.at), event.subject_label, event.name, log.author(event), event.reason) for event in ordered]
    return table(("At", "About", "What", "By", "Why"), rows, none="none recorded")


def _closed(case: Case) -> tuple[object, list[str]]:
    ends = [last(case.log.about(each), "incident.resolved") for each in case.incidents]
    events = [event for event in ends if event is not None]
    rows = [(event.subject_label, moment(event.at), case.log.author(event), event.reason) for event in events]
    return table(("Incident", "At", "By", "Why"), rows, none="none"), evidence(*events)


def _median(case: Case, name: str) -> str | None:
    """Of all incidents where it is known; a sentence when there is nothing to measure."""
    if not case.incidents:
        return "no incident"
    known = [
        span.total_seconds() for each in case.incidents if (span := getattr(Times.of(each, case.log), name)) is not None
    ]
    return (
        duration(timedelta(seconds=median(known))) if known else f"none was {name} yet" if name != "detected" else None
    )


class Times:
    """How long an incident took to be detected, acknowledged and resolved; None: not yet, or not known."""

    def __init__(self, detected: timedelta | None, acknowledged: timedelta | None, resolved: timedelta | None) -> None:
        self.detected, self.acknowledged, self.resolved = detected, acknowledged, resolved

    @classmethod
    def of(cls, incident: Incident, log: Log) -> Times:
        events = log.about(incident)
        opened = events[0].at
        taken, ended = first(events, "incident.acknowledged"), last(events, "incident.resolved")
        is_over = log.state(incident, initial="open") == "resolved"
        began = began_at(events[0])
        return cls(
            opened - began if began else None,
            taken.at - opened if taken else None,
            ended.at - opened if ended and is_over else None,
        )


def began_at(opened: Event) -> datetime | None:
    """When what the incident tells of began: the start of the window that showed it. None: nobody can know."""
    run = DriftRun.objects.filter(pk=opened.data.get("evidence", {}).get("drift_run")).first()
    return run.window_from if run else None
