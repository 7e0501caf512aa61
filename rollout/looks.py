"""A look at a rollout: read the log since its stage began, measure, judge. Nothing is written but shadow scores.

What a process remembers of a canary (``rollout.watched``) only spares it counting again, so a look that was lost, done
twice or done elsewhere costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gates.models import CheckResult, GateRun
from rollout import business, prediction_log, shadow, standstill, watched
from rollout.analysis import (
    BusinessValues,
    CanaryRows,
    Promise,
    ShadowRows,
    distributions,
    loss_differences,
    measure_shadow,
)
from rollout.analysis.coverage import Coverage, coverage
from rollout.analysis.disagreement import Named, decisions, differences
from rollout.day_files import TIME
from rollout.judge import Kind, Look, Progress, conclude_canary, conclude_shadow
from rollout.models import Better, BusinessMetric, MeasuredPer, Rollout, RolloutState
from rollout.plan import RolloutPlan

FloatArray = NDArray[np.float64]
CANARY_COLUMNS = [
    *("entity", "sticky", "salt", "stage", "step", "share", "arm", "status", "score", "latency_ms", "warm"),
]
SETTLED = timedelta(seconds=2)
"""Younger requests are left to the next look: one that was asked earlier may still be on its way into the log."""
DAY = timedelta(days=1)

DIFFERENCES_EVERY = timedelta(hours=1)


def is_due(rollout: Rollout, *, now: datetime) -> bool:
    """Whether a stage is running and the last look at it lies far enough back."""
    if rollout.state not in (RolloutState.SHADOW, RolloutState.CANARY):
        return False
    last = rollout.analyses.order_by("-number").first()
    since = max(last.at, rollout.step_since or last.at) if last else rollout.step_since
    return since is not None and now - since >= look_every(rollout)


def look_every(rollout: Rollout) -> timedelta:
    """How long after a look the next one is due."""
    return RolloutPlan.model_validate(rollout.plan).look_every


def take(rollout: Rollout, *, now: datetime) -> Look:
    """Look at a rollout in shadow or canary as of ``now``; raises ValueError in any other state."""
    number = rollout.analyses.count() + 1
    plan = RolloutPlan.model_validate(rollout.plan)
    if rollout.state == RolloutState.SHADOW:
        return _at_shadow(rollout, plan, number, now)
    if rollout.state == RolloutState.CANARY:
        return _at_canary(rollout, plan, number, now)
    raise ValueError(f"{rollout} is {rollout.state}: there is nothing to look at")


# ---------------------------------------------------------------------- shadow


def _at_shadow(rollout: Rollout, plan: RolloutPlan, number: int, now: datetime) -> Look:
    asked = shadow.requests_of(rollout, until=now)
    seconds = timedelta(seconds=plan.shadow.timed_seconds)
    scored = shadow.scores(rollout, asked, now=now, timed_rows=plan.shadow.timed_rows, budget=seconds)
    table = asked.filter(pc.is_in(asked["request_id"], value_set=scored["request_id"]))
    rows = _shadow_rows(rollout, table, scored, now)
    measured = measure_shadow(
        rows,
        plan.shadow,
        threshold=rollout.endpoint.threshold,
        promise=promise_of(rollout),
        look=number,
        timed=plan.shadow.timed_rows > 0,
    )
    covered = _coverage(rollout, plan, table, rows, now)
    known = int(rows.with_outcome.sum())
    hours = _hours(rollout, rollout.shadow_since, now)
    progress = Progress(_hours(rollout, rollout.step_since, now), known, hours, covered.missing)
    conclusion = conclude_shadow(measured, progress, plan.shadow)
    n = len(table)
    detail: dict[str, Any] = {
        "outcomes": known,
        "rows": n,
        "waiting": len(asked) - n,
        "decisions": decisions(rows, rollout.endpoint.threshold).as_dict(),
        "scores": distributions.scores(rows.candidate[rows.both], rows.champion[rows.both]),
        "times": distributions.times(rows.candidate_latency, rows.champion_latency),
        "coverage": [each.as_dict() for each in covered.levels],
        "not_in_shadow": _business_metrics(rollout),
    }
    if conclusion.kind != Kind.WAIT or not _told_lately(rollout, now):
        detail |= _differences(rollout, rows, table)
    return Look(number, RolloutState.SHADOW, 0, conclusion, measured, n, n, detail)


def _shadow_rows(rollout: Rollout, table: pa.Table, scored: pa.Table, now: datetime) -> ShadowRows:
    place = pc.index_in(table["request_id"], value_set=scored["request_id"])
    candidate = _taken(scored["score"], place)
    return ShadowRows(
        entity=table["entity"].to_pylist(),
        candidate=candidate,
        champion=_floats(table["score"]),
        candidate_failed=np.isnan(candidate),
        champion_failed=table["status"].to_numpy() != "ok",
        label=_labels(rollout, table, now),
        candidate_latency=_taken(scored["latency_ms"], place),
        champion_latency=_taken(scored["champion_latency_ms"], place),
    )


def _coverage(rollout: Rollout, plan: RolloutPlan, table: pa.Table, rows: ShadowRows, now: datetime) -> Coverage:
    """Whether the shadow saw every kind of traffic that the plan asks for; the traffic is only read when it does."""
    wanted = plan.shadow.min_segment_rows
    if not wanted:
        return Coverage((), "")
    traffic = shadow.traffic_of(rollout, until=now, columns=list(wanted))
    lacking = [name for name in wanted if name not in table.column_names]
    if lacking:  # not what either version is given, but in the log all the same
        mine = traffic.select(["request_id", *lacking])
        place = pc.index_in(table["request_id"], value_set=mine["request_id"])
        for name in lacking:
            table = table.append_column(name, mine[name].take(place))
    return coverage(traffic, table, rows.both, wanted=wanted)


def _business_metrics(rollout: Rollout) -> list[str]:
    """What nobody can know while the candidate answers nobody: what people do on its answers."""
    metrics = BusinessMetric.objects.filter(endpoint=rollout.endpoint, retired_at=None)
    return [each.title for each in metrics.order_by("name")]


def _told_lately(rollout: Rollout, now: datetime) -> bool:
    """Whether a look of the last hour says where the two differ: that is long, and looks may be seconds apart."""
    lately = rollout.analyses.filter(stage=RolloutState.SHADOW, at__gt=now - DIFFERENCES_EVERY, at__lte=now)
    return lately.filter(detail__has_key="disagreement").exists()


def _differences(rollout: Rollout, rows: ShadowRows, table: pa.Table) -> dict[str, Any]:
    """Where the two versions differ most, and where the candidate loses most: for the person who reads the look."""
    seen = [name for name in shadow.seen_columns(rollout) if name in table.column_names]
    named = Named(table["request_id"].to_pylist(), table["at"].to_pylist())
    features = table.select([name for name in seen if name != rollout.endpoint.entity_column]).to_pandas()
    return differences(rows, features, loss_differences(rows), named, threshold=rollout.endpoint.threshold)


def promise_of(rollout: Rollout) -> Promise | None:
    """What the gates measured, to be held against real outcomes: the gain in AUC over the incumbent where they compared
    the two, else the AUC alone; None where the policy gates neither."""
    run = rollout.gate_run
    if rollout.incumbent_id is not None and run.champion_id == rollout.incumbent_id:
        gain = _gated(run, "versus_champion")
        if gain is not None:
            return Promise(*gain, over_champion=True)
    alone = _gated(run, "metric")
    return Promise(*alone) if alone else None


def _gated(run: GateRun, kind: str) -> tuple[float, float, float] | None:
    """Value and interval of the run's check of ``kind`` on the AUC."""
    checks: Sequence[dict[str, Any]] = run.policy.document.get("checks", ())
    ids = [each["id"] for each in checks if each.get("kind") == kind and each.get("metric") == "roc_auc"]
    for result in CheckResult.objects.filter(gate_run=run, check_id__in=ids):
        if result.value is not None and result.low is not None and result.high is not None:
            return result.value, result.low, result.high
    return None


# ---------------------------------------------------------------------- canary


def _at_canary(rollout: Rollout, plan: RolloutPlan, number: int, now: datetime) -> Look:
    table = _canary_table(rollout, now)
    state = watched.state_of(rollout, plan.canary, table, _canary_rows)
    label = _labels(rollout, table, now)
    state.know(label)
    measured = state.measure(timed=plan.timed_rows > 0, business=_business(rollout, table, now))

    canary = table["arm"].to_numpy() == "canary"
    candidates, at_step = int(canary.sum()), int((canary & (_step(table) == rollout.step)).sum())
    progress = Progress(
        _hours(rollout, rollout.step_since, now),
        at_step,
        _hours(rollout, rollout.canary_since, now),
        stage_rows=candidates,
    )
    conclusion = conclude_canary(measured, progress, plan, step=rollout.step)
    known = ~np.isnan(label)
    detail = {
        "share": plan.step(rollout.step).share,
        "rows_at_step": at_step,
        "outcomes": {"canary": int((known & canary).sum()), "champion": int((known & ~canary).sum())},
        **_spreads(table, canary),
    }
    return Look(
        number, RolloutState.CANARY, rollout.step, conclusion, measured, candidates, len(table) - candidates, detail
    )


def _spreads(table: pa.Table, canary: NDArray[np.bool_]) -> dict[str, Any]:
    """How scores and times of both arms are spread, over all steps: drawn on the rollout's page, judged by nobody."""
    answered = table["status"].to_numpy() == "ok"
    timed = answered & _true_unless_told(table["warm"])
    score, latency = _floats(table["score"]), _floats(table["latency_ms"])
    return {
        "scores": distributions.scores(score[canary & answered], score[~canary & answered]),
        "times": distributions.times(latency[canary & timed], latency[~canary & timed]),
    }


def _canary_rows(table: pa.Table) -> CanaryRows:
    """Rows of the log as what is judged; their outcomes are told apart."""
    n = len(table)
    at = table["at"].cast(TIME).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return CanaryRows(
        entity=table["entity"].to_pylist(),
        canary=table["arm"].to_numpy() == "canary",
        share=_floats(table["share"]),
        step=_step(table),
        failed=table["status"].to_numpy() != "ok",
        score=_floats(table["score"]),
        label=np.full(n, np.nan),
        latency=_floats(table["latency_ms"]),
        sticky=_true_unless_told(table["sticky"]),
        warm=_true_unless_told(table["warm"]),
        day=at // int(DAY / timedelta(microseconds=1)),
    )


def _step(table: pa.Table) -> NDArray[np.int64]:
    step: NDArray[np.int64] = pc.fill_null(table["step"].cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return step


def _true_unless_told(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Old rows do not have it: they count."""
    told: NDArray[np.bool_] = pc.fill_null(column.cast(pa.bool_()), True).to_numpy(zero_copy_only=False)
    return told


def _business(rollout: Rollout, table: pa.Table, now: datetime) -> list[BusinessValues]:
    """What the product wants of the endpoint, as far as its windows have closed."""
    found = []
    for metric in business.metrics_of(rollout).order_by("name"):
        matured = business.values(metric, table, now=now)
        found.append(
            BusinessValues(
                name=metric.name,
                title=metric.title,
                row=matured.row_index,
                value=matured.value,
                harm_from=metric.harm_from,
                tolerated=metric.tolerated_harm,
                more_is_better=metric.better == Better.HIGHER,
                heavy_tailed=metric.is_heavy_tailed,
                guards=metric.guards,
                unit=metric.unit,
                per="entity" if metric.per == MeasuredPer.ENTITY else "prediction",
            )
        )
    return found


def _canary_table(rollout: Rollout, now: datetime) -> pa.Table:
    """Rows that this rollout's canary could have answered, oldest first; what the kill switch answered is not one."""
    since = rollout.canary_since or now
    rows = prediction_log.read(
        rollout.endpoint.name, since=since, until=max(since, now - SETTLED), columns=CANARY_COLUMNS
    )
    mine = pc.and_(pc.equal(rows["salt"], rollout.salt), pc.equal(rows["stage"], RolloutState.CANARY.value))
    arms = pc.and_(pc.is_in(rows["arm"], value_set=pa.array(["champion", "canary"])), pc.is_valid(rows["share"]))
    judged = pc.and_(mine, arms)
    return rows.filter(judged).sort_by([("at", "ascending"), ("request_id", "ascending")])


# ---------------------------------------------------------------------- shared


def _labels(rollout: Rollout, table: pa.Table, now: datetime) -> FloatArray:
    """Outcomes whose window has closed, NaN elsewhere: those that merely arrived early would favour one arm."""
    closed = now - rollout.endpoint.outcome_window
    if not len(table):
        return np.empty(0)
    first = pc.min(table["at"]).as_py()
    outcomes = prediction_log.read_outcomes(
        rollout.endpoint.name, since=first, until=max(first, closed) + timedelta(microseconds=1), as_of=now
    )
    labels = _taken(outcomes["label"], pc.index_in(table["request_id"], value_set=outcomes["request_id"]))
    too_young = pc.greater(table["at"], pa.scalar(closed, TIME)).to_numpy(zero_copy_only=False)
    labels[too_young] = np.nan
    return labels


def _taken(values: pa.ChunkedArray, places: pa.ChunkedArray) -> FloatArray:
    """``values`` at ``places``, NaN where the place or the value is null."""
    return _floats(values.take(places))


def _floats(values: pa.ChunkedArray) -> FloatArray:
    """float64 with NaN for null, writable."""
    array: FloatArray = values.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
    return array


def _hours(rollout: Rollout, since: datetime | None, now: datetime) -> float:
    """Hours since a moment, but for those in which the rollout was paused and its endpoint frozen or stopped."""
    return standstill.counted(rollout, since, now=now) / timedelta(hours=1)
