"""Look at the features three times: in the training data, in the holdout, and in what the online store serves now.

And once at how old the stored features of the training data were when they were joined. The online store is asked for
the entities of the newest requests: what it would answer them at the run's beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from audit.errors import InvalidInput
from features import offline, online
from features.ages import Ages, joined_ages
from features.models import Dataset, FeatureService, FeatureViewVersion
from features.schemas import Column, declared_types
from gates.collect.training_table import dataset_of, spread
from gates.frozen import Frozen, Json, Unmeasurable, had
from gates.measure import data_quality as measure
from gates.models import GateRun
from gates.policy import DataQualityCheck
from gates.preparation import pipeline_of
from registry import frames
from registry.models import ModelVersion

AGED_ROWS = 2000
"""So many rows of the training data are asked how old their values were."""
ASKED_WITHIN = (timedelta(days=1), timedelta(days=28))
"""The newest requests are looked for in these stretches before the run, until there are enough."""


def collect(check: DataQualityCheck, run: GateRun, frozen: Frozen) -> Json:
    """Everything that ``judge.data_quality`` looks at. Raises Unmeasurable, Unavailable."""
    holdout, dataset, service = had(frozen.table), dataset_of(run.version), _service_of(run.version)
    if check.key not in holdout.column_names:
        raise Unmeasurable(f"The holdout has no column {check.key!r} that tells its rows apart.")
    trained, declared, rules = offline.load(dataset), declared_types(service), check.columns
    training = measure.subject(trained, measure.promised(frozen.features, declared, rules), rules, key=check.key)
    wanted = measure.like_training(trained, training, frozen.features, declared, rules, range_margin=check.range_margin)
    return {
        "key": check.key,
        "training": training,
        "holdout": measure.subject(holdout, wanted, rules, key=check.key),
        "served": _served(check, run.version, frozen, wanted),
        "joined": _joined(service, dataset, trained),
    }


def _service_of(version: ModelVersion) -> FeatureService:
    if version.service is None:
        raise Unmeasurable("The version names no feature service: which features it takes is unknown.")
    return version.service


# ---------------------------------------------------------------------- what is served now


def _served(check: DataQualityCheck, version: ModelVersion, frozen: Frozen, wanted: dict[str, Column]) -> Json:
    """What the online store answers those who asked last; ``why`` says why there was nothing to look at."""
    service = _service_of(version)
    if not service.columns:
        return _nothing(frozen, "All its features come with the request: the online store has nothing of them.")
    asked = _asked_last(version, frozen, check.served_entities)
    if not asked.num_rows:
        return _nothing(frozen, "Nobody asked in the last 28 days: there is nothing served to look at.")
    told: Json = {"rows": asked.num_rows, "missing": [], "duplicates": None, "columns": {}}
    found = online.stored(service, asked, now=frozen.began)
    types = dict(zip(found.names, online.plan_of(service).types, strict=True))
    for version_of, names in _by_view(service).items():
        # many who asked share an airport: of each entity of a view one row counts
        places = _first_of_each(asked, version_of.view.entity.join_keys)
        at = [found.names.index(name) for name in names]
        table = pa.table(
            {
                name: pa.array([found.rows[row][column] for row in places], types[name])
                for name, column in zip(names, at, strict=True)
            }
        )
        columns = measure.subject(table, {name: wanted[name] for name in names}, check.columns)["columns"]
        ages = [found.ages[row][at[0]] for row in places]  # a view's values come together, so they are of one age
        aged = _aged([age for age in ages if age is not None], version_of)
        told["columns"] |= {name: {**each, "entities": len(places), **aged} for name, each in columns.items()}
    return {**told, "why": "", "at": frozen.began.isoformat()}


def _by_view(service: FeatureService) -> dict[FeatureViewVersion, list[str]]:
    """The stored columns of each view version."""
    versions = {each.view_version_id: each.view_version for each in service.pinned()}
    return {
        version: [each.column for each in service.pinned() if each.view_version_id == version.pk]
        for version in versions.values()
    }


def _first_of_each(asked: pa.Table, keys: Sequence[str]) -> list[int]:
    """Where each entity stands for the first time."""
    seen: dict[tuple[Any, ...], int] = {}
    for place, key in enumerate(zip(*(asked.column(name).to_pylist() for name in keys), strict=True)):
        seen.setdefault(key, place)
    return list(seen.values())


def _aged(ages: Sequence[float], version: FeatureViewVersion) -> Json:
    """How many values are known, and how many of them are older than their view's promise."""
    promise = version.view.freshness
    stale = 0 if promise is None else sum(age > promise.total_seconds() for age in ages)
    return {"known": len(ages), "stale": stale, "promise_seconds": promise.total_seconds() if promise else None}


def _nothing(frozen: Frozen, why: str) -> Json:
    return {
        "rows": 0,
        "missing": [],
        "duplicates": None,
        "columns": {},
        "why": why,
        "at": frozen.began.isoformat(),
    }


def _asked_last(version: ModelVersion, frozen: Frozen, most: int) -> pa.Table:
    """The join keys of the entities that asked last, each once, newest first."""
    pipeline = pipeline_of(version)
    service = _service_of(version)
    keys = list(dict.fromkeys(key for names in online.plan_of(service).join_keys for key in names))
    timestamp = frames.timestamp_column(pipeline)
    entities = pa.table({})
    for span in ASKED_WITHIN:
        until = frozen.began
        requests = frames.requests_frame(pipeline, start=until - span, end=until, as_of=until)
        lacking = [key for key in keys if key not in requests.column_names]
        if lacking:
            raise Unmeasurable(f"The requests lack the join keys {', '.join(lacking)} of its features.")
        newest = requests.select([*keys, timestamp]).rename_columns([*keys, "__asked"])
        last = newest.group_by(keys, use_threads=False).aggregate([("__asked", "max")])
        entities = last.sort_by([("__asked_max", "descending"), *((key, "ascending") for key in keys)])
        if entities.num_rows >= most:
            break
    return entities.slice(0, most).select(keys)


# ---------------------------------------------------------------------- how old it was in training


def _joined(service: FeatureService, dataset: Dataset, trained: pa.Table) -> Json:
    """The ages of the stored features at the times of the training rows."""
    if not service.columns:
        return {"why": "It takes no stored features.", "rows": 0, "views": []}
    sample = spread(trained, AGED_ROWS)
    try:
        ages = joined_ages(service, sample, timestamp=dataset.timestamp, as_of=dataset.as_of)
    except InvalidInput as problem:
        return {"why": f"How old its values were can not be told: {problem}", "rows": 0, "views": []}
    return {"why": "", "rows": sample.num_rows, "views": [_view(service, each) for each in ages]}


def _view(service: FeatureService, ages: Ages) -> dict[str, Any]:
    known = ages.seconds[np.isfinite(ages.seconds)]
    ttl = ages.version.ttl
    return {
        "view": str(ages.version),
        "columns": _by_view(service)[ages.version],
        "promise_seconds": ages.promise.total_seconds() if ages.promise is not None else None,
        "ttl_seconds": ttl.total_seconds() if ttl is not None else None,
        "known": ages.known,
        "stale": ages.stale,
        "expired": ages.expired,
        "age_seconds": {
            name: float(np.quantile(known, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)) if len(known)
        },
    }
