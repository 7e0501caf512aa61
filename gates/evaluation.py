"""Measure one gate run: the holdout, the scores of candidate and champion on the same rows, every check's judgement.

Nothing is written here but the holdout dataset, which is addressed by its content: measuring again gives the same one.
What can not be measured becomes an ``error`` of the checks that need it; an engine that does not answer
(``Unavailable``) is not caught, so that the job tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
import pyarrow as pa

from audit.errors import InvalidInput, NotFound
from audit.trail import Service
from engines import scoring
from features import consistency, offline
from features.actions import snapshot
from features.models import Dataset, FeatureService, FeatureViewVersion
from gates import judge, measure
from gates.actions import judge_evidence
from gates.judge import FeatureAudit, Judgement
from gates.models import GateRun, GateRunState
from gates.policy import (
    AnyCheck,
    CiEvidenceCheck,
    DataQualityCheck,
    FairnessCheck,
    FeatureConsistencyCheck,
    LatencyCheck,
    MetricCheck,
    PolicyDocument,
    TrainingDataCheck,
    VersusChampionCheck,
    parse,
)
from registry import conversion, frames, windows
from registry.models import ModelVersion, Task, TrainingPipeline
from stats.interval import FloatArray

GATES = Service("gates")
CHAMPION_CALLS = 30
_SCORED = (MetricCheck, VersusChampionCheck, FairnessCheck, LatencyCheck)

T = TypeVar("T")


class Unmeasurable(Exception):
    """Something that checks need could not be had; the message says what and why."""


@dataclass(frozen=True)
class Refused:
    """Why an ingredient is missing."""

    why: str


@dataclass(frozen=True)
class Holdout:
    """Labelled rows that the version was not trained on, with the candidate's features, and with the champion's."""

    dataset: Dataset
    table: pa.Table
    champion_table: pa.Table | None
    y: FloatArray

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)


@dataclass(frozen=True)
class Scores:
    """A version's scores on the holdout (NaN where it failed) and its single-row latencies in milliseconds."""

    p: FloatArray
    milliseconds: FloatArray
    errors: dict[int, str]


@dataclass(frozen=True)
class Measured:
    """Everything the checks of one run look at; what is missing says why."""

    run: GateRun
    document: PolicyDocument
    now: datetime
    holdout: Holdout | Refused
    candidate: Scores | Refused
    champion: Scores | Refused


@dataclass(frozen=True)
class Evaluation:
    """The judgements of one run and the rows they were made on."""

    judgements: tuple[Judgement, ...]
    holdout: Dataset | None


def evaluate(run: GateRun, *, now: datetime) -> Evaluation:
    """Measure and judge every check of the run's policy. The run is ``running``; its start bounds the holdout."""
    document = parse(run.policy.document)
    if any(isinstance(check, _SCORED) for check in document.checks):
        _settle_form(run.version, now=now)
        scoring.warm_up(conversion.served_form(run.version).load_class)  # starts while the holdout is joined
    holdout = _attempt(lambda: _holdout(run))
    candidate: Scores | Refused = Refused("It was not scored.")
    champion: Scores | Refused = Refused("There is no champion.")
    if isinstance(holdout, Refused):
        candidate = champion = holdout
    elif any(isinstance(check, _SCORED) for check in document.checks):
        calls, budget = _timing(document.checks)
        candidate, champion = _scores(run, holdout, calls=calls, budget=budget)
    measured = Measured(run, document, now, holdout, candidate, champion)
    judgements = tuple(_judgement(check, measured) for check in document.checks)
    return Evaluation(judgements, None if isinstance(holdout, Refused) else holdout.dataset)


def _settle_form(version: ModelVersion, *, now: datetime) -> None:
    """Decide in which form the version is served before it is measured; what passed once keeps the form it had."""
    if not version.gate_runs.filter(state=GateRunState.PASSED).exists():
        conversion.settle(version, now=now)


# ---------------------------------------------------------------------- ingredients


def _attempt(compute: Callable[[], T]) -> T | Refused:
    try:
        return compute()
    except (Unmeasurable, scoring.Unscorable, InvalidInput, NotFound) as problem:
        return Refused(str(problem))


def _had(ingredient: T | Refused) -> T:
    if isinstance(ingredient, Refused):
        raise Unmeasurable(ingredient.why)
    return ingredient


def _holdout(run: GateRun) -> Holdout:
    """The labelled rows of the days before the run began, joined as they would have been served, and snapshotted."""
    version, until = run.version, run.state_since
    if version.service is None:
        raise Unmeasurable("The version names no feature service: nothing can be computed for it.")
    assert until is not None  # a running run began
    pipeline = _pipeline(version)
    since, end = windows.holdout_period(now=until, holdout_days=pipeline.holdout_days)
    frame = frames.labelled_frame(pipeline, start=since, end=end, as_of=until)
    timestamp = frames.timestamp_column(pipeline)
    table = offline.training_frame(version.service, frame, timestamp=timestamp, as_of=until)
    dataset = snapshot(
        service=version.service,
        table=table,
        label=pipeline.label,
        timestamp=timestamp,
        purpose="holdout",
        as_of=until,
        actor=GATES,
        now=until,
    )
    champion_table: pa.Table | None = None
    if run.champion is not None and run.champion.service is not None:
        same = run.champion.service_id == version.service_id
        other = run.champion.service
        champion_table = table if same else offline.training_frame(other, frame, timestamp=timestamp, as_of=until)
    return Holdout(dataset, table, champion_table, _labels(table, pipeline))


def _pipeline(version: ModelVersion) -> TrainingPipeline:
    """Who says where the requests and outcomes are: the pipeline that trained it, else one of its model."""
    if version.training_run is not None:
        return version.training_run.pipeline
    pipelines = list(version.registered_model.pipelines.order_by("id"))
    alike = [pipeline for pipeline in pipelines if pipeline.service_id == version.service_id]
    if not pipelines:
        raise Unmeasurable(f"{version.registered_model} has no pipeline that says where its requests and outcomes are.")
    return (alike or pipelines)[0]


def _labels(table: pa.Table, pipeline: TrainingPipeline) -> FloatArray:
    column = table.column(pipeline.label)
    y = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64)
    binary = pipeline.registered_model.task == Task.BINARY_CLASSIFICATION
    if binary and not np.isin(y, (0.0, 1.0)).all():
        raise Unmeasurable(f"The label {pipeline.label} holds other values than 0 and 1.")
    return y


def _timing(checks: Sequence[AnyCheck]) -> tuple[int, timedelta]:
    """How many single rows to time at most and for how long: what the most demanding latency check asks."""
    latency = [check for check in checks if isinstance(check, LatencyCheck)]
    calls = max((check.calls for check in latency), default=0)
    return calls, timedelta(seconds=max((check.budget_seconds for check in latency), default=0.0))


def _scores(
    run: GateRun, holdout: Holdout, *, calls: int, budget: timedelta
) -> tuple[Scores | Refused, Scores | Refused]:
    """Both versions scored and timed on the same rows, one after the other: neither disturbs the other's time."""
    rival, rival_table = run.champion, holdout.champion_table
    with ExitStack() as closing:
        candidate_scorer = _attempt(lambda: closing.enter_context(_scorer(run.version)))
        candidate = _attempt(lambda: _scored(_had(candidate_scorer), holdout.table, calls=calls, budget=budget))
        if rival is None:
            return candidate, Refused("There is no champion.")
        if rival_table is None:
            return candidate, Refused(f"{rival} names no feature service: nothing can be computed for it.")
        rival_scorer = _attempt(lambda: closing.enter_context(_scorer(rival)))
        few = min(calls, CHAMPION_CALLS)
        champion = _attempt(lambda: _scored(_had(rival_scorer), rival_table, calls=few, budget=budget / 3))
    return candidate, champion


def _scorer(version: ModelVersion) -> scoring.Scorer:
    """Of the form in which the gateway serves it, so that both its scores and its latency are the real ones."""
    if not version.is_scorable:
        raise Unmeasurable(f"{version} is {version.get_load_class_display()}.")
    return conversion.open_scorer(version, columns=input_columns(version))


def input_columns(version: ModelVersion) -> tuple[str, ...]:
    """What the model takes, in order: as its signature says, else all that its feature service gives."""
    named = tuple(str(each["name"]) for each in version.signature.get("inputs", []))
    if not named and version.service is not None:
        named = version.service.vector
    if not named:
        raise Unmeasurable(f"{version} does not say which columns it takes.")
    return named


def _scored(scorer: scoring.Scorer, table: pa.Table, *, calls: int, budget: timedelta) -> Scores:
    missing = [name for name in scorer.columns if name not in table.column_names]
    if missing:
        raise Unmeasurable(f"Its feature service does not give the columns that it takes: {', '.join(missing[:5])}.")
    scored = scorer.predict(table)
    asked = min(calls, table.num_rows)
    sample = table.take(np.linspace(0, table.num_rows - 1, asked).astype(np.int64)) if asked else table.slice(0, 0)
    return Scores(scored.scores, scorer.time_rows(sample, budget=budget), scored.errors)


# ---------------------------------------------------------------------- judgements


def _judgement(check: AnyCheck, measured: Measured) -> Judgement:
    try:
        return _judge(check, measured)
    except Unmeasurable as problem:
        return judge.could_not(check, str(problem))


def _judge(check: AnyCheck, measured: Measured) -> Judgement:
    match check:
        case MetricCheck():
            return _metric(check, measured)
        case VersusChampionCheck():
            return _versus_champion(check, measured)
        case FairnessCheck():
            return _fairness(check, measured)
        case LatencyCheck():
            return _latency(check, measured)
        case DataQualityCheck():
            return _data_quality(check, measured)
        case TrainingDataCheck():
            return _training_data(check, measured)
        case CiEvidenceCheck():
            return judge_evidence(measured.run, check, now=measured.now)
        case FeatureConsistencyCheck():
            return _feature_consistency(check, measured)


def _all_scored(measured: Measured) -> tuple[Holdout, FloatArray]:
    """The holdout and the candidate's scores of all its rows: a row it can not score is a defect, not a gap."""
    holdout, candidate = _had(measured.holdout), _had(measured.candidate)
    if candidate.errors:
        row, said = min(candidate.errors.items())
        raise Unmeasurable(
            f"It could not score {len(candidate.errors):,} of {holdout.rows:,} rows (row {row}: {said})."
        )
    return holdout, candidate.p


def _metric(check: MetricCheck, measured: Measured) -> Judgement:
    holdout, p = _all_scored(measured)
    threshold, few = measured.document.threshold, holdout.rows < check.minimum_rows
    value = None if few else measure.value(check.metric, holdout.y, p, threshold=threshold, confidence=check.confidence)
    return judge.metric(check, value, rows=holdout.rows)


def _versus_champion(check: VersusChampionCheck, measured: Measured) -> Judgement:
    champion = measured.run.champion
    if champion is None:
        return judge.no_champion(check)
    holdout, candidate = _all_scored(measured)
    if isinstance(measured.champion, Refused):
        raise Unmeasurable(f"The champion {champion} could not be scored: {measured.champion.why}")
    if reaches_into(champion, holdout.dataset):
        raise Unmeasurable(
            f"The champion {champion} was trained on rows of the holdout: the comparison would be unfair."
        )
    both = np.isfinite(measured.champion.p)
    y, p, q = holdout.y[both], candidate[both], measured.champion.p[both]
    rows = len(y)
    threshold, confidence = measured.document.threshold, check.confidence
    if rows < check.minimum_rows:
        return judge.versus_champion(check, None, rows=rows, champion=str(champion), values={})
    alone = {
        name: measure.value(check.metric, y, scores, threshold=threshold, confidence=confidence)
        for name, scores in (("candidate_value", p), ("champion_value", q))
    }
    values = {name: interval.estimate if interval else None for name, interval in alone.items()}
    gain = measure.gain(check.metric, y, p, q, threshold=threshold, confidence=confidence)
    return judge.versus_champion(check, gain, rows=rows, champion=str(champion), values=values)


def reaches_into(version: ModelVersion, holdout: Dataset) -> bool:
    """Whether a version's training dataset reaches into a holdout (False where it has no dataset on record)."""
    trained = version.dataset
    if trained is None or trained.time_to is None or holdout.time_from is None:
        return False
    return bool(trained.time_to >= holdout.time_from)


def _fairness(check: FairnessCheck, measured: Measured) -> Judgement:
    holdout, p = _all_scored(measured)
    if check.by not in holdout.table.column_names:
        columns = ", ".join(holdout.table.column_names[:12])
        raise Unmeasurable(f"The holdout has no column {check.by!r} to group by; it starts with {columns}.")
    groups = holdout.table.column(check.by)
    threshold = measured.document.threshold
    gaps, table = measure.group_gaps(check, groups, holdout.y, p, threshold=threshold, seed=measured.run.seed)
    return judge.fairness(check, gaps, table)


def _latency(check: LatencyCheck, measured: Measured) -> Judgement:
    candidate = _had(measured.candidate)
    champion = None if isinstance(measured.champion, Refused) else measured.champion.milliseconds
    return judge.latency(check, candidate.milliseconds[: check.calls], champion=champion)


def _trained_on(version: ModelVersion) -> Dataset:
    if version.dataset is None:
        raise Unmeasurable("The version names no training dataset: what it was trained on is unknown.")
    return version.dataset


def _data_quality(check: DataQualityCheck, measured: Measured) -> Judgement:
    holdout, trained = _had(measured.holdout), _trained_on(measured.run.version)
    if check.key not in holdout.table.column_names:
        raise Unmeasurable(f"The holdout has no column {check.key!r} that tells its rows apart.")
    service = holdout.dataset.service
    columns = measure.quality(
        holdout.table,
        service.vector,
        trained=trained.profile,
        trained_rows=trained.rows,
        levels=_levels(trained, holdout.table, service.vector),
        range_margin=check.range_margin,
    )
    duplicates = measure.duplicates(holdout.table.column(check.key))
    return judge.data_quality(check, columns, duplicates=duplicates, rows=holdout.rows)


def _levels(trained: Dataset, table: pa.Table, columns: Sequence[str]) -> dict[str, set[str]]:
    """The values that the text features had in training; the file is opened only when there are any."""
    texts = [name for name in columns if measure.is_text(table.schema.field(name).type)]
    if not texts:
        return {}
    seen = offline.load(trained)
    known = [name for name in texts if name in seen.column_names]
    return {name: set(seen.column(name).unique().drop_null().to_pylist()) for name in known}


def _training_data(check: TrainingDataCheck, measured: Measured) -> Judgement:
    holdout, trained = _had(measured.holdout), _trained_on(measured.run.version)
    return judge.training_data(
        check,
        rows=trained.rows,
        trained_to=trained.time_to,
        holdout_from=holdout.dataset.time_from,
        now=measured.now,
    )


def _feature_consistency(check: FeatureConsistencyCheck, measured: Measured) -> Judgement:
    service = measured.run.version.service
    if service is None:
        raise Unmeasurable("The version names no feature service: which features it takes is unknown.")
    since = measured.now - timedelta(days=check.maximum_age_days)
    audits: list[FeatureAudit] = []
    unserved: list[str] = []
    for version, taken in _taken_of(service).items():
        standings = consistency.standings(version, since=since, until=measured.now)
        found = [_audit(version, each) for name, each in standings.items() if name in taken]
        audits += found
        if not found:
            unserved.append(str(version))
    return judge.feature_consistency(check, audits, unserved=unserved)


def _audit(version: FeatureViewVersion, standing: consistency.Standing) -> FeatureAudit:
    return FeatureAudit(
        feature=f"{version} {standing.feature}",
        at=standing.at,
        cells=standing.cells,
        differing=standing.differing,
        limit=standing.limit,
        clean=standing.clean,
        needed=standing.needed,
    )


def _taken_of(service: FeatureService) -> dict[FeatureViewVersion, set[str]]:
    """By view version, the names under which an audit counts what the service takes: features, on-demand columns."""
    on_demand = {column for transform in service.pinned_transforms() for column in transform.columns}
    taken: dict[FeatureViewVersion, set[str]] = {}
    for each in service.pinned():
        taken.setdefault(each.view_version, set(on_demand)).add(each.feature)
    return taken
