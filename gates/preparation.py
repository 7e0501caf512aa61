"""What a gate run is measured on: gathered once (``prepare``), rebuilt from what was kept as often as needed
(``frozen_of``).

Gathering stores the holdout under the digest of its content and scores both versions on those stored rows, each in the
form in which it is served; it writes nothing else, and done again it stores the same. What can not be had is
``missing`` and says why, and is an ``error`` of the checks that need it; an engine that does not answer
(``Unavailable``) is not caught, so that the job tries again.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from importlib.metadata import version as installed
from typing import TypeVar

import numpy as np
import pyarrow as pa

from audit import canonical
from audit.errors import InvalidInput, NotFound
from audit.trail import Service
from engines import scoring
from engines.scoring import Scorer
from features import offline
from features.actions import snapshot
from features.models import Dataset, FeatureService
from gates import frozen_scores
from gates.frozen import Frozen, Json, Missing, Scores, Unmeasurable
from gates.frozen_scores import StoredScores
from gates.measure.curves import curves
from gates.models import GateRun, GateRunState, Preparation
from gates.policy import PolicyDocument, parse
from registry import conversion, frames, windows
from registry.conversion import Form
from registry.models import ModelVersion, Task, TrainingPipeline
from stats.interval import FloatArray

GATES = Service("gates")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "onnxruntime", "pandas", "pyarrow")
LOOK_AT_SCORES = frozenset({"metric", "versus_champion", "slice", "fairness"})
"""The kinds of checks that are measured on scores."""
ASK_THE_MODEL = frozenset({"latency", "robustness"})
"""The kinds that ask the version themselves."""
CURVES_CONFIDENCE = 0.95
"""Of the intervals that the report draws; the checks have their own."""
CAN_NOT_BE_HAD = (Unmeasurable, scoring.Unscorable, InvalidInput, NotFound)
"""What says that something is missing for good; another attempt would find the same."""

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """What was gathered, for ``gates.actions.record_preparation`` to write down; fields as of ``Preparation``."""

    holdout: Dataset | None
    served_digest: str
    inputs: Json
    scores_digest: str
    missing: Mapping[str, str]
    curves: Json
    wall_seconds: float

    @property
    def inputs_hash(self) -> str:
        """SHA-256 of the canonical JSON: equal inputs have equal hashes on both databases."""
        return canonical.digest([], canonical.as_text(self.inputs))


@dataclass(frozen=True)
class _Rows:
    """The stored holdout, and the same rows with the champion's features (None: it has no feature service)."""

    dataset: Dataset
    champion_dataset: Dataset | None
    label: str


def prepare(run: GateRun, now: datetime) -> Prepared:
    """Gather what the checks of a running run look at: rows and labels as known when it began, scores of both versions.

    Writes nothing but files and datasets, which are addressed by their content. Raises Unavailable.
    """
    started = time.monotonic()
    document = parse(run.policy.document)
    kinds = {check.kind for check in document.checks}
    if _may_change_form(run.version):
        conversion.settle(run.version, now=now)
    if kinds & (LOOK_AT_SCORES | ASK_THE_MODEL):
        scoring.warm_up(conversion.served_form(run.version).load_class)  # starts while the holdout is joined
    rows = _attempt(lambda: _rows(run))
    candidate: Scores | Missing = Missing("It was not scored: no check of the policy looks at scores.")
    champion: Scores | Missing = candidate if run.champion else Missing("There is no champion.")
    if isinstance(rows, Missing):
        candidate = champion = rows
    elif kinds & LOOK_AT_SCORES:
        candidate, champion = _scores(run, rows)
    y = rows if isinstance(rows, Missing) else _attempt(lambda: _labels_of(run, rows))
    stored = StoredScores(_or_none(y), _or_none(candidate), _or_none(champion))
    ingredients = {"holdout": rows, "labels": y, "candidate": candidate, "champion": champion}
    form = conversion.served_form(run.version)
    return Prepared(
        holdout=None if isinstance(rows, Missing) else rows.dataset,
        served_digest=form.digest,
        inputs=_inputs(run, _or_none(rows)),
        scores_digest=frozen_scores.store(stored),
        missing={name: each.why for name, each in ingredients.items() if isinstance(each, Missing)},
        curves=_curves(run, document, stored),
        wall_seconds=time.monotonic() - started,
    )


def frozen_of(run: GateRun, document: PolicyDocument | None = None) -> Frozen:
    """What a prepared run is measured on, from what was kept: nothing here can have changed since.

    ``document`` asks what another policy would make of it. Raises Unavailable when a file is gone or was changed, and
    ``Preparation.DoesNotExist`` for a run that was never prepared.
    """
    preparation: Preparation = run.preparation
    inputs, missing = preparation.inputs, preparation.missing
    own = inputs["candidate"]
    y: FloatArray | Missing
    table: pa.Table | Missing
    if "holdout" in missing:
        table = y = Missing(missing["holdout"])
    else:
        table = table_of(inputs["holdout"])
        y = Missing(missing["labels"]) if "labels" in missing else _labels(table, inputs["label"], inputs["task"])
    stored = _stored_scores(preparation.scores_digest) if preparation.scores_digest else StoredScores(None, None, None)
    return Frozen(
        document=document or parse(run.policy.document),
        task=inputs["task"],
        seed=inputs["seed"],
        began=datetime.fromisoformat(inputs["began"]),
        table=table,
        y=y,
        label=inputs["label"],
        features=tuple(own["features"]),
        inputs=tuple(own["columns"]),
        candidate=stored.candidate or Missing(missing.get("candidate", "It was not scored.")),
        champion=stored.champion or Missing(missing.get("champion", "It was not scored.")),
        champion_name=inputs["champion"]["name"] if inputs["champion"] else "",
        champion_is_unfair=inputs["champion_is_unfair"],
    )


def forget() -> None:
    """Read from the files again next time, instead of from what this process still has in memory."""
    table_of.cache_clear()
    _stored_scores.cache_clear()


@lru_cache(maxsize=2)
def table_of(digest: str) -> pa.Table:
    """The stored holdout of this digest.

    The checks of a run follow one another in a process, so the last ones stay in memory.
    """
    return offline.load(Dataset.objects.select_related("service").get(digest=digest))


@lru_cache(maxsize=2)
def _stored_scores(digest: str) -> StoredScores:
    return frozen_scores.load(digest)


# ---------------------------------------------------------------------- models


def open_scorer(version: ModelVersion) -> Scorer:
    """A warm scorer of the form in which the gateway serves the version.

    Raises Unmeasurable, Unscorable, Unavailable.
    """
    return open_form(version, conversion.served_form(version))


def open_form(version: ModelVersion, form: Form) -> Scorer:
    """A warm scorer of one form of a version: the one it was measured in, or the one that was registered."""
    if not version.is_scorable:
        raise Unmeasurable(f"{version} is {version.get_load_class_display()}.")
    return conversion.open_form(form, columns=input_columns(version))


def input_columns(version: ModelVersion) -> tuple[str, ...]:
    """What the model takes, in order: as its signature says, else all that its feature service gives."""
    named = version.input_columns or (version.service.vector if version.service is not None else ())
    if not named:
        raise Unmeasurable(f"{version} does not say which columns it takes.")
    return tuple(named)


def pipeline_of(version: ModelVersion) -> TrainingPipeline:
    """Who says where the requests and outcomes are: the pipeline that trained it, else one of its model."""
    if version.training_run is not None:
        return version.training_run.pipeline
    pipelines = list(version.registered_model.pipelines.order_by("id"))
    alike = [pipeline for pipeline in pipelines if pipeline.service_id == version.service_id]
    if not pipelines:
        raise Unmeasurable(f"{version.registered_model} has no pipeline that says where its requests and outcomes are.")
    return (alike or pipelines)[0]


def scored(scorer: Scorer, table: pa.Table) -> Scores:
    """Scores of all rows, as they are kept. Raises Unmeasurable when the table lacks what the model takes."""
    lacking = [name for name in scorer.columns if name not in table.column_names]
    if lacking:
        raise Unmeasurable(f"Its feature service does not give the columns that it takes: {', '.join(lacking[:5])}.")
    answer = scorer.predict(table)
    return frozen_scores.scores(answer.scores, answer.errors)


def libraries() -> dict[str, str]:
    """What measures, by version."""
    return {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}}


# ---------------------------------------------------------------------- ingredients


def _may_change_form(version: ModelVersion) -> bool:
    """What passed once keeps the form in which it was measured."""
    return not version.gate_runs.filter(state=GateRunState.PASSED).exists()


def _attempt(compute: Callable[[], T]) -> T | Missing:
    try:
        return compute()
    except CAN_NOT_BE_HAD as problem:
        return Missing(str(problem))


def _or_none(ingredient: T | Missing) -> T | None:
    return None if isinstance(ingredient, Missing) else ingredient


def _rows(run: GateRun) -> _Rows:
    """The labelled rows of the days before the run began, joined as they would have been served, and stored."""
    version, until = run.version, run.state_since
    if version.service is None:
        raise Unmeasurable("The version names no feature service: nothing can be computed for it.")
    assert until is not None  # a running run began
    pipeline = pipeline_of(version)
    since, end = windows.holdout_period(now=until, holdout_days=pipeline.holdout_days)
    frame = frames.labelled_frame(pipeline, start=since, end=end, as_of=until)
    dataset = _joined(version.service, frame, pipeline, until)
    rival = run.champion.service if run.champion is not None else None
    if rival is None:
        return _Rows(dataset, None, pipeline.label)
    same = rival.pk == version.service.pk
    return _Rows(dataset, dataset if same else _joined(rival, frame, pipeline, until), pipeline.label)


def _joined(service: FeatureService, frame: pa.Table, pipeline: TrainingPipeline, until: datetime) -> Dataset:
    timestamp = frames.timestamp_column(pipeline)
    return snapshot(
        service=service,
        table=offline.training_frame(service, frame, timestamp=timestamp, as_of=until),
        label=pipeline.label,
        timestamp=timestamp,
        purpose="holdout",
        as_of=until,
        actor=GATES,
        now=until,
    )


def _labels_of(run: GateRun, rows: _Rows) -> FloatArray:
    return _labels(table_of(rows.dataset.digest), rows.label, run.registered_model.task)


def _labels(table: pa.Table, label: str, task: str) -> FloatArray:
    y = np.asarray(table.column(label).cast(pa.float64()).to_numpy(), dtype=np.float64)
    if task == Task.BINARY_CLASSIFICATION and not np.isin(y, (0.0, 1.0)).all():
        raise Unmeasurable(f"The label {label} holds other values than 0 and 1.")
    return y


def _scores(run: GateRun, rows: _Rows) -> tuple[Scores | Missing, Scores | Missing]:
    """Both versions' scores of the same rows."""
    candidate = _attempt(lambda: _scored(run.version, rows.dataset))
    rival, rival_rows = run.champion, rows.champion_dataset
    if rival is None:
        return candidate, Missing("There is no champion.")
    if rival_rows is None:
        return candidate, Missing(f"{rival} names no feature service: nothing can be computed for it.")
    return candidate, _attempt(lambda: _scored(rival, rival_rows))


def _scored(version: ModelVersion, rows: Dataset) -> Scores:
    # the stored rows, so that the same can be asked again later
    with open_scorer(version) as scorer:
        return scored(scorer, table_of(rows.digest))


# ---------------------------------------------------------------------- the record


def _inputs(run: GateRun, rows: _Rows | None) -> Json:
    """Everything that the verdicts depend on, by name and digest (docs/gates.md, "A run")."""
    champion_rows = rows.champion_dataset if rows else None
    assert run.state_since is not None  # a running run began
    unfair = rows is not None and run.champion is not None and reaches_into(run.champion, rows.dataset)
    return {
        "began": run.state_since.isoformat(),
        "task": str(run.registered_model.task),
        "label": rows.label if rows else run.version.label,
        "policy": {"number": run.policy.number, "hash": run.policy.content_hash},
        "seed": run.seed,
        "workload_seed": run.seed,
        "candidate": _described(run.version),
        "champion": _described(run.champion) if run.champion is not None else None,
        "champion_is_unfair": unfair,
        "holdout": rows.dataset.digest if rows else "",
        "champion_holdout": champion_rows.digest if champion_rows else "",
        "libraries": libraries(),
    }


def _described(version: ModelVersion) -> Json:
    form = conversion.served_form(version)
    columns = _attempt(lambda: input_columns(version))
    return {
        "name": str(version),
        "artifact": version.artifact_digest,
        "form": {"load_class": str(form.load_class), "digest": form.digest},
        "service": version.service.content_hash if version.service else "",
        "features": list(version.service.vector) if version.service else [],
        "columns": [] if isinstance(columns, Missing) else list(columns),
        "training_dataset": version.dataset.digest if version.dataset else "",
        "code": version.code_digest,
        "commit": version.commit,
    }


def _curves(run: GateRun, document: PolicyDocument, stored: StoredScores) -> Json:
    """What the report draws; nothing where there is nothing to draw."""
    if stored.y is None or stored.candidate is None:
        return {}
    champion = stored.champion.p if stored.champion else None
    settings = {"threshold": document.threshold, "confidence": CURVES_CONFIDENCE}
    drawn: Json = curves(run.registered_model.task, stored.y, stored.candidate.p, champion, **settings)
    return drawn


def reaches_into(version: ModelVersion, holdout: Dataset) -> bool:
    """Whether a version's training dataset reaches into a holdout (False where it has no dataset on record)."""
    trained = version.dataset
    if trained is None or trained.time_to is None or holdout.time_from is None:
        return False
    return bool(trained.time_to >= holdout.time_from)
