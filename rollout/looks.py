"""A look at a rollout: read the log since its stage began, measure, judge. Nothing is written but shadow scores.

A look keeps no state of its own, so a look that was lost or done twice costs nothing.
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
from rollout import prediction_log, shadow, standstill
from rollout.analysis import (
    CanaryRows,
    Promise,
    ShadowRows,
    distributions,
    loss_differences,
    measure_canary,
    measure_shadow,
)
from rollout.analysis.coverage import Coverage, coverage
from rollout.analysis.disagreement import Named, decisions, differences
from rollout.day_files import TIME
from rollout.judge import Look, Progress, conclude_canary, conclude_shadow
from rollout.models import BusinessMetric, Rollout, RolloutState
from rollout.plan import RolloutPlan

FloatArray = NDArray[np.float64]
CANARY_COLUMNS = ["entity", "salt", "stage", "step", "share", "arm", "status", "score", "latency_ms"]


def is_due(rollout: Rollout, *, now: datetime) -> bool:
    """Whether a stage is running and the last look at it lies far enough back."""
    if rollout.state not in (RolloutState.SHADOW, RolloutState.CANARY):
        return False
    last = rollout.analyses.order_by("-number").first()
    since = max(last.at, rollout.step_since or last.at) if last else rollout.step_since
    return since is not None and now - since >= RolloutPlan.model_validate(rollout.plan).look_every


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
        **_differences(rollout, rows, table),
    }
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
    rows = CanaryRows(
        entity=table["entity"].to_pylist(),
        canary=table["arm"].to_numpy() == "canary",
        share=_floats(table["share"]),
        step=table["step"].to_numpy().astype(np.int64),
        failed=table["status"].to_numpy() != "ok",
        score=_floats(table["score"]),
        label=_labels(rollout, table, now),
        latency=_floats(table["latency_ms"]),
    )
    measured = measure_canary(rows, plan.canary, timed=plan.timed_rows > 0)
    at_step = int((rows.canary & (rows.step == rollout.step)).sum())
    progress = Progress(_hours(rollout, rollout.step_since, now), at_step, _hours(rollout, rollout.canary_since, now))
    conclusion = conclude_canary(measured, progress, plan, step=rollout.step)
    candidates = int(rows.canary.sum())
    detail = {"share": plan.step(rollout.step).share, "rows_at_step": at_step, "outcomes": _known(rows)}
    return Look(
        number, RolloutState.CANARY, rollout.step, conclusion, measured, candidates, len(table) - candidates, detail
    )


def _canary_table(rollout: Rollout, now: datetime) -> pa.Table:
    """Rows that this rollout's canary could have answered, oldest first; what the kill switch answered is not one."""
    since = rollout.canary_since or now
    rows = prediction_log.read(rollout.endpoint.name, since=since, until=now, columns=CANARY_COLUMNS)
    mine = pc.and_(pc.equal(rows["salt"], rollout.salt), pc.equal(rows["stage"], RolloutState.CANARY.value))
    judged = pc.and_(mine, pc.is_in(rows["arm"], value_set=pa.array(["champion", "canary"])))
    return rows.filter(judged).sort_by("at")


def _known(rows: CanaryRows) -> dict[str, int]:
    known = ~np.isnan(rows.label)
    return {"canary": int((known & rows.canary).sum()), "champion": int((known & ~rows.canary).sum())}


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
