"""The checks of data in a small real world: sources, views, the online store, a version trained on them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from features import actions as store
from features import online
from features.materialize import materialize
from features.models import ConsistencyCheck, DataSource, FeatureView, FeatureViewVersion
from features.offline import training_frame
from gates.frozen import Frozen, Json, Missing, Unmeasurable
from gates.judge import Judgement
from gates.kinds import KINDS
from gates.models import GateRun
from gates.policy import AnyCheck, parse
from registry import frames
from registry.models import ModelVersion, TrainingPipeline
from tests.builders import ROBOT, group
from tests.gates import rows, world

pytestmark = pytest.mark.django_db

QUALITY: dict[str, Any] = {"id": "data-quality", "kind": "data_quality"}
LEAKAGE: dict[str, Any] = {"id": "leakage", "kind": "leakage"}
DRIFT: dict[str, Any] = {"id": "live-drift", "kind": "live_drift"}
CONSISTENT: dict[str, Any] = {"id": "feature-consistency", "kind": "feature_consistency"}
HOUR = timedelta(hours=1)


def version(pipeline: TrainingPipeline, table: pa.Table | None = None, **fields: Any) -> ModelVersion:
    """A version with its training data and no artifact: nobody asks it anything here."""
    table = world.training_table(pipeline) if table is None else table
    values = {"service": pipeline.service, "dataset": world.dataset(pipeline, table), "label": "late", **fields}
    return rows.version(pipeline.registered_model, **values)


def frozen(pipeline: TrainingPipeline, check: AnyCheck) -> Frozen:
    """The holdout of the pipeline's service, as of now."""
    frame = frames.labelled_frame(pipeline, start=world.HOLDOUT, end=world.NOW, as_of=world.NOW)
    table = training_frame(pipeline.service, frame, timestamp="asked", as_of=world.NOW)
    return Frozen(
        document=parse({"checks": [{"id": "floor", "kind": "metric", "metric": "roc_auc", "at_least": 0.5}]}),
        task="binary_classification",
        seed=0,
        began=world.NOW,
        table=table,
        y=np.asarray(table.column("late").cast(pa.float64()).to_numpy()),
        label="late",
        features=pipeline.service.vector,
        inputs=pipeline.service.vector,
        candidate=Missing("Not scored."),
        champion=Missing("There is none."),
        champion_name="",
        champion_is_unfair=False,
    )


def parsed(check: dict[str, Any]) -> AnyCheck:
    anything = {"id": "any", "kind": "training_data"}
    return parse({"checks": [check, anything]}).checks[0]


def collected(check: dict[str, Any], pipeline: TrainingPipeline, of: ModelVersion) -> Json:
    """What is kept of the check: finite JSON."""
    wanted = parsed(check)
    collect = KINDS[wanted.kind].collect
    assert collect is not None
    run = GateRun(registered_model=of.registered_model, version=of)
    found: Json = json.loads(json.dumps(collect(wanted, run, frozen(pipeline, wanted)), allow_nan=False))
    return found


def judged(check: dict[str, Any], pipeline: TrainingPipeline, of: ModelVersion | None = None) -> Judgement:
    of = version(pipeline) if of is None else of
    return KINDS[check["kind"]].judge(parsed(check), collected(check, pipeline, of))


def replaced(table: pa.Table, column: str, values: Any) -> pa.Table:
    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(place), pc.cast(values, table.schema.field(place).type))


def take(pipeline: TrainingPipeline, *features: str, **fields: Any) -> None:
    """From now on the pipeline's service is of these features."""
    pipeline.service = world.service(*features, **fields)
    pipeline.save()


# ---------------------------------------------------------------------- data quality


def test_data_quality__honest_world__passes() -> None:
    pipeline = world.build(per_day=50)
    FeatureView.objects.update(freshness=2 * HOUR)
    materialize(FeatureViewVersion.objects.get(), now=world.NOW)
    judgement = judged({**QUALITY, "stale": 0.0, "served_nulls": 0.0}, pipeline)

    assert judgement.verdict == "passed"
    assert judgement.message.startswith("3 features of 6")
    assert "Served now to 3 entities: 0.0 % missing, 0.0 % of the values stale." in judgement.message
    (view,) = judgement.detail["joined"]["views"]
    assert view["view"] == "weather@1"
    assert 0 < view["age_seconds"]["p50"] < view["age_seconds"]["max"] <= 3600


def test_data_quality__broken_sensor_in_the_holdout__fails() -> None:
    pipeline = world.build(per_day=50)
    table = world.training_table(pipeline)
    calm = replaced(table, "weather__wind", pc.divide(table.column("weather__wind"), 100.0))

    assert "weather__wind 100.0 % out of range" in judged(QUALITY, pipeline, version(pipeline, calm)).message


def test_data_quality__store_that_was_never_filled__fails_where_nulls_are_limited() -> None:
    pipeline = world.build(per_day=50)
    online.store().forget(FeatureViewVersion.objects.get().pk)
    judgement = judged({**QUALITY, "served_nulls": 0.1, "served_entities": 3}, pipeline)

    assert judgement.verdict == "failed"
    assert "served now: weather__wind 100.0 % missing, of 3 entities" in judgement.message


def test_data_quality__store_that_stood_still__fails_where_staleness_is_limited() -> None:
    pipeline = world.build(per_day=50)
    FeatureView.objects.update(freshness=2 * HOUR)
    materialize(FeatureViewVersion.objects.get(), now=world.NOW - timedelta(days=20))
    stale = {**QUALITY, "stale": 0.1, "served_entities": 50}
    judgement = judged(stale, pipeline)

    assert judgement.verdict == "failed"
    assert "served now: weather__wind 100.0 % older than 2 hours" in judgement.message


def test_data_quality__gaps_in_the_source__show_as_old_values_of_the_training_data() -> None:
    pipeline = world.build(per_day=50)
    FeatureView.objects.update(freshness=HOUR / 4)
    judgement = judged({**QUALITY, "stale": 0.5}, pipeline)

    assert judgement.verdict == "failed"
    assert "in training weather@1 7" in judgement.message


def test_data_quality__request_features_only__has_nothing_served_to_look_at() -> None:
    pipeline = world.build(per_day=50)
    take(pipeline)
    judgement = judged({**QUALITY, "stale": 0.0, "served_nulls": 0.0}, pipeline)

    assert judgement.verdict == "passed"
    assert "All its features come with the request" in judgement.message


def test_data_quality__key_that_is_no_column__can_not_be_measured() -> None:
    pipeline = world.build(per_day=50)

    with pytest.raises(Unmeasurable, match="no column 'flight'"):
        judged({**QUALITY, "key": "flight"}, pipeline)


@pytest.mark.parametrize("check", [QUALITY, LEAKAGE, DRIFT, {"id": "training-data", "kind": "training_data"}])
def test_data_checks__version_without_a_dataset__can_not_be_measured(check: dict[str, Any]) -> None:
    pipeline = world.build(per_day=50)

    with pytest.raises(Unmeasurable, match="names no training dataset"):
        judged(check, pipeline, version(pipeline, dataset=None))


# ---------------------------------------------------------------------- training data


def test_training_data__counts_the_positives_and_finds_the_holdout() -> None:
    pipeline = world.build(per_day=50)
    table = world.training_table(pipeline)
    told = collected({"id": "training-data", "kind": "training_data"}, pipeline, version(pipeline, table))

    assert told["positives"] == pc.sum(table.column("late")).as_py()
    assert told["rows"] == table.num_rows
    assert told["holdout_from"] >= world.HOLDOUT.isoformat()
    assert told["trained_to"] < world.HOLDOUT.isoformat()


def test_training_data__trained_on_the_holdout__is_an_error() -> None:
    pipeline = world.build(per_day=50)
    everything = world.training_table(pipeline, until=world.NOW)

    assert judged(
        {"id": "training-data", "kind": "training_data"}, pipeline, version(pipeline, everything)
    ).verdict == ("error")


# ---------------------------------------------------------------------- leakage


def define_answer(known_at: str) -> FeatureViewVersion:
    """A view of how a request turned out, four hours later, that says when it was known."""
    view = store.apply_view(
        name="answer",
        entity=store.define_entity(name="request", join_keys=["request_id"], actor=ROBOT, now=world.NOW),
        expression=f"SELECT request_id, asked, {known_at} AS known, late FROM outcomes",
        sources=[DataSource.objects.get(name="outcomes")],
        features=["late"],
        event_timestamp="asked",
        known_at="known",
        lookback=None,
        owner=group("delay-science"),
        actor=ROBOT,
        now=world.NOW,
    )
    return store.publish(view, actor=ROBOT, reason="Reviewed.", now=world.NOW)


def test_leakage__honest_world__passes_and_tells_what_can_not_be_checked() -> None:
    pipeline = world.build(per_day=50)
    judgement = judged(LEAKAGE, pipeline)

    assert judgement.verdict == "passed"
    assert "600 values of 1 stored features had arrived in time." in judgement.message
    assert "can not be checked: distance, carrier_size." in judgement.message


def test_leakage__view_that_claims_to_know_the_outcome_before_it_happened__fails_twice() -> None:
    pipeline = world.build(per_day=50)
    define_answer(known_at="asked")
    take(pipeline, "weather.wind", "answer.late")
    judgement = judged(LEAKAGE, pipeline)

    assert judgement.verdict == "failed"
    assert "answer__late: it orders the rows as the label itself does" in judgement.message
    assert "Newer than they claim: answer__late" in judgement.message
    assert "answer@1" in judgement.message
    assert "weather" not in judgement.message


def test_leakage__view_that_tells_when_it_knew__is_null_and_passes() -> None:
    pipeline = world.build(per_day=50)
    define_answer(known_at="arrived")
    take(pipeline, "weather.wind", "answer.late")

    assert judged(LEAKAGE, pipeline).verdict == "passed"


def test_leakage__values_joined_without_their_time__fail() -> None:
    pipeline = world.build(per_day=50)
    table = world.training_table(pipeline)
    other = replaced(table, "weather__wind", pa.array(np.roll(table.column("weather__wind").to_numpy(), 100)))
    judgement = judged(LEAKAGE, pipeline, version(pipeline, other))

    assert judgement.verdict == "failed"
    assert "Not what was known at the time: weather__wind" in judgement.message


def test_leakage__request_features_only__is_looked_at_by_numbers_alone() -> None:
    pipeline = world.build(per_day=50)
    take(pipeline)

    assert judged(LEAKAGE, pipeline).verdict == "passed"


# ---------------------------------------------------------------------- live drift


def test_live_drift__same_world__passes() -> None:
    pipeline = world.build(per_day=100)
    judgement = judged({**DRIFT, "days": 14}, pipeline)

    assert (judgement.verdict, judgement.detail["requests"]) == ("passed", judgement.n)
    assert {each["feature"] for each in judgement.detail["features"]} == {"distance", "carrier_size", "weather__wind"}


def test_live_drift__world_that_moved_since_training__fails_and_names_the_feature() -> None:
    pipeline = world.build(per_day=100)
    table = world.training_table(pipeline)
    calm = replaced(table, "weather__wind", pc.divide(table.column("weather__wind"), 2.0))
    of = version(pipeline, calm, importance={"weather__wind": 0.7})
    judgement = judged(DRIFT, pipeline, of)

    assert judgement.verdict == "failed"
    assert "weather__wind effect" in judgement.message
    assert "importance 70%" in judgement.message


def test_live_drift__nobody_asks__does_not_stop() -> None:
    pipeline = world.build(per_day=50)
    quiet = {**DRIFT, "days": 1}
    of = version(pipeline)
    told = collected(quiet, pipeline, of)

    assert told["requests"] < 500
    assert told["features"] == []


# ---------------------------------------------------------------------- served against recomputed


def audited(days: float, differing: int, feature: str = "wind") -> None:
    """An audit of 250 cells of the weather so many days before now."""
    ConsistencyCheck.objects.create(
        view_version=FeatureViewVersion.objects.get(),
        at=world.NOW - timedelta(days=days),
        cells=250,
        differing=differing,
        features={feature: {"cells": 250, "differing": differing, "late": 0}},
    )


def test_feature_consistency__inconsistent_feature__fails_until_audits_are_clean() -> None:
    pipeline = world.build(per_day=20)
    audited(2, 20)
    of = version(pipeline)

    assert "weather@1 wind 20 of 250 differ" in judged(CONSISTENT, pipeline, of).message
    audited(1, 0)
    assert judged(CONSISTENT, pipeline, of).verdict == "passed"


def test_feature_consistency__never_served__passes_with_these_words() -> None:
    pipeline = world.build(per_day=20)
    audited(8, 20)  # longer ago than the policy looks
    audited(1, 20, feature="rain")  # which it does not take
    judgement = judged(CONSISTENT, pipeline)

    assert judgement.verdict == "passed"
    assert "weather@1 was served in the last 7 days" in judgement.message


def test_feature_consistency__above_a_limit_that_the_view_tolerates__passes() -> None:
    pipeline = world.build(per_day=20)
    FeatureView.objects.update(consistency_limit=0.1)
    audited(1, 20)

    assert judged(CONSISTENT, pipeline).verdict == "passed"


def test_feature_consistency__version_without_a_service__can_not_be_measured() -> None:
    pipeline = world.build(per_day=20)

    with pytest.raises(Unmeasurable, match="names no feature service"):
        judged(CONSISTENT, pipeline, version(pipeline, service=None))
