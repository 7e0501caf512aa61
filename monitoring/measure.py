"""Measure one window of a served version from the prediction log: numbers only, no judgement, no writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring import profiles, reference
from monitoring.config import MonitorSettings
from monitoring.judge import SCORE, FeatureMeasured, PerformanceMeasured
from monitoring.windows import Window
from registry.models import ModelVersion, RegisteredModel
from rollout import prediction_log
from rollout.models import Endpoint
from stats import metrics
from stats.interval import mean_interval

SERVED = ("version_id", "status", "score")


@dataclass(frozen=True)
class DriftMeasured:
    """``rows``: predictions of the version in the window; ``answered``: those it answered without an error.

    ``references``: what inputs and answers were compared with, for a person.
    """

    rows: int
    answered: int
    features: tuple[FeatureMeasured, ...]
    references: dict[str, str]


def drift(
    version: ModelVersion, window: Window, settings: MonitorSettings, *, first_served: Window | None
) -> DriftMeasured:
    """Inputs and answers of ``version`` in ``window``. ``first_served``: the window that became its own reference."""
    columns = reference.columns_of(version)
    table = served(version, window, columns)
    inputs = reference.of_training(version, settings) or _first_inputs(version, first_served, columns, settings)
    features = [profiles.measure(name, table[name], each) for name, each in inputs.features.items()]
    answered = _answered(table)
    answers = _answers(version, first_served, settings) if first_served else {}
    features += [profiles.measure(SCORE, answered["score"], each) for each in answers.values()]
    source = f"first window served, {first_served}" if answers else "none yet: this window becomes the reference"
    left_out = [name for name in columns if name not in inputs.features]
    return DriftMeasured(
        rows=table.num_rows,
        answered=answered.num_rows,
        features=tuple(features),
        references={"inputs": inputs.source, "answers": source, "not compared": ", ".join(left_out)},
    )


def _first_inputs(
    version: ModelVersion, first_served: Window | None, columns: Sequence[str], settings: MonitorSettings
) -> reference.InputReference:
    """Without a training dataset: the first window the version served, if that is not the one being measured."""
    if first_served is None:
        return reference.InputReference({}, "none yet: this window becomes the reference")
    table = served(version, first_served, columns)
    return reference.InputReference(
        _uncalibrated(table, columns, settings), f"no training dataset: first window served, {first_served}"
    )


def _answers(
    version: ModelVersion, first_served: Window, settings: MonitorSettings
) -> dict[str, profiles.FeatureReference]:
    return _uncalibrated(_answered(served(version, first_served, [])), ["score"], settings)


def _uncalibrated(
    table: pa.Table, columns: Sequence[str], settings: MonitorSettings
) -> dict[str, profiles.FeatureReference]:
    return profiles.build(
        table,
        columns,
        timestamp=None,
        window=timedelta(days=settings.window_days),
        minimum_rows=settings.minimum_rows,
        range_margin=settings.range_margin,
    )


def served(version: ModelVersion, window: Window, columns: Sequence[str]) -> pa.Table:
    """The predictions that ``version`` was responsible for in ``window``, over all endpoints of its model."""
    parts = [
        prediction_log.read(name, since=window.start, until=window.end, columns=[*SERVED, *columns])
        for name in _endpoints(version.registered_model)
    ]
    if not parts:
        return pa.table({name: pa.nulls(0) for name in ["request_id", "at", *SERVED, *columns]})
    table = pa.concat_tables(parts, promote_options="permissive")
    return table.filter(pc.equal(table["version_id"], version.pk))


def _answered(table: pa.Table) -> pa.Table:
    good = pc.and_(pc.equal(table["status"].cast(pa.string()), "ok"), pc.is_valid(table["score"]))
    return table.filter(good)


def _endpoints(registered_model: RegisteredModel) -> list[str]:
    return list(registered_model.endpoints.order_by("name").values_list("name", flat=True))


def outcome_window(registered_model: RegisteredModel) -> timedelta:
    """How long after a prediction its outcome is read: the longest of the model's endpoints."""
    windows = Endpoint.objects.filter(registered_model=registered_model).values_list("outcome_window", flat=True)
    return max(windows, default=timedelta(0))


def performance(
    version: ModelVersion, window: Window, settings: MonitorSettings, *, as_of: datetime
) -> PerformanceMeasured:
    """AUC, Brier score and calibration gap of the version's answers in ``window``, on outcomes known at ``as_of``."""
    answered = _answered(served(version, window, []))
    outcomes = [
        prediction_log.read_outcomes(name, since=window.start, until=window.end, as_of=as_of)
        for name in _endpoints(version.registered_model)
    ]
    if not answered.num_rows or not outcomes:
        return PerformanceMeasured(answered.num_rows, 0)
    known = pa.concat_tables(outcomes)
    known = known.filter(pc.is_valid(known["label"]))
    place = pc.index_in(answered["request_id"], value_set=known["request_id"].combine_chunks())
    labelled = answered.filter(pc.is_valid(place))
    y = known["label"].take(place.drop_null()).to_numpy()
    p = labelled["score"].to_numpy()
    is_binary = bool(np.isin(y, (0.0, 1.0)).all())
    return PerformanceMeasured(
        matured=answered.num_rows,
        labelled=labelled.num_rows,
        auc=metrics.roc_auc(y, p, settings.confidence) if is_binary else None,
        brier=metrics.brier(y, p, settings.confidence),
        calibration_gap=mean_interval(y - p, confidence=settings.confidence),
    )
