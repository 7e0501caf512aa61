"""Was it the code, the data, or both? Real predictions through the real gateway, replayed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
import sklearn
from django.conf import settings
from django.db import connection
from onnx import numpy_helper

from audit.errors import NotFound
from audit.models import Event
from engines import conversion
from features import online
from mlops.replay import Replay, replay
from registry import artifacts
from registry.actions.conversion import Tried, record_conversion
from registry.models import ConversionOutcome, ModelVersion
from rollout import actions, gateway, prediction_log, routing, scorers
from rollout.models import Route
from tests.builders import NOON, ROBOT, alice, audrey, charlie, paula
from tests.mlops import shop as building
from tests.mlops.shop import ENDPOINT, HOUR, Shop

pytestmark = pytest.mark.django_db
LATER = NOON + timedelta(days=30)


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Iterator[None]:
    yield
    scorers.close_all()


def replayed(request_id: str = "r1") -> Replay:
    return replay(ENDPOINT, request_id, reader=alice(), now=LATER)


def rewrite(request_id: str, copied: str, **changes: Any) -> None:
    """Log a copy of a prediction in which these columns are others."""
    row = prediction_log.find_row(ENDPOINT, copied)
    assert row is not None
    for name, value in {"request_id": request_id, **changes}.items():
        place = row.column_names.index(name)
        row = row.set_column(place, name, pa.array([value], row.schema.field(place).type))
    prediction_log.append(ENDPOINT, row)


def artifact_file(version: ModelVersion) -> Path:
    (found,) = Path(settings.DATA_ROOT, "artifacts").rglob(version.artifact_digest)
    return found


# ---------------------------------------------------------------------- reproduced


def test_replay__nothing_wrong__is_reproduced_with_every_input() -> None:
    place = building.build()
    score = place.asks("r1")
    found = replayed()
    assert found.causes == ("reproduced",)
    assert found.served == found.replayed == found.recomputed == score
    assert [(each.feature, each.origin, each.served, each.recomputed) for each in found.inputs] == [
        ("amount", "request", 0.5, None),
        ("shop_facts__size", "shop_facts@1", 3.0, 3.0),
    ]
    assert found.features == ()
    assert found.message == (
        f"Reproduced: late-arrival v1 answers {score:.6g} again on the inputs that were served, and the feature that "
        "was recomputed is what was known then."
    )


def test_replay__leaves_no_trace() -> None:
    place = building.build()
    place.asks("r1")
    before = Event.objects.count()
    replayed()
    assert Event.objects.count() == before


def test_replay__correction_that_came_later__is_not_blamed() -> None:
    place = building.build()
    place.asks("r1", at=NOON + HOUR)
    building.write_sizes(("s3", 30.0, NOON + 2 * HOUR))
    place.asks("r2", at=NOON + 3 * HOUR)
    before, after = replayed("r1"), replayed("r2")
    assert (before.cause, before.inputs[1].recomputed) == ("reproduced", 3.0)
    assert (after.cause, after.inputs[1].recomputed) == ("reproduced", 30.0)


def in_single_precision(content: bytes) -> bytes:
    """The same model with its numbers rounded, as older releases wrote them."""
    model = onnx.load_model_from_string(content)
    for each in model.graph.initializer:
        if each.data_type == onnx.TensorProto.DOUBLE:
            rounded = numpy_helper.to_array(each).astype(np.float32).astype(np.float64)
            each.CopyFrom(numpy_helper.from_array(rounded, each.name))
    return bytes(model.SerializeToString())


def as_onnx(version: ModelVersion) -> None:
    """Convert a version that has answered already; from now on its ONNX form does."""
    random = np.random.default_rng(5)
    rows = pa.table({name: random.normal(size=200) for name in version.input_columns})
    made = conversion.convert(artifacts.local_path(version), columns=version.input_columns, rows=rows, tolerance=1e-4)
    content = in_single_precision(made.content)
    tried = Tried(
        ConversionOutcome.USED, "Near enough.", 1e-4, content, rows=made.rows, max_difference=made.max_difference
    )
    record_conversion(version, tried, actor=ROBOT, now=NOON)
    routing.forget()


def unpin() -> None:
    """As in older releases, which converted versions that had passed their gates: their answers are in the log."""
    on = " ON registry_conversion" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER guard_registry_conversion_pinned{on}")


def test_replay__converted_since__is_asked_in_the_form_that_answered() -> None:
    place = building.build()
    before = place.asks("r1")
    unpin()
    as_onnx(place.champion)
    after = place.asks("r2", at=NOON + 2 * HOUR)
    assert before != after, "single precision"
    assert (replayed("r1").cause, replayed("r1").form) == ("reproduced", "skops")
    assert (replayed("r2").cause, replayed("r2").form) == ("reproduced", "onnx")
    rewrite("r3", "r1", score=before + 1e-3)
    assert replayed("r3").cause == "artifact_difference"


# ---------------------------------------------------------------------- feature skew


def test_replay__tampered_store__names_that_feature_and_by_how_much() -> None:
    place = building.build()
    place.tamper("s3", 33.0)
    score = place.asks("r1")
    right = replay_of_right_size(place)
    found = replayed()
    assert found.causes == ("feature_skew",)
    (skew,) = found.features
    assert (skew.feature, skew.served, skew.recomputed, skew.difference) == ("shop_facts__size", 33.0, 3.0, 30.0)
    assert found.replayed == score
    assert found.recomputed == pytest.approx(right, abs=1e-12)
    assert "shop_facts__size was served as 33 and was 3 as known then (30 too much)" in found.message
    assert f"would have been {right:.6g} instead of {score:.6g}" in found.message
    assert not skew.is_late


def replay_of_right_size(place: Shop) -> float:
    """What the champion says of shop s3 with its true size."""
    inputs = pa.table({"shop_facts__size": [3.0], "amount": [0.5]})
    return float(scorers.scorer(place.champion).predict(inputs).scores[0])


def test_replay__both_wrong__says_both() -> None:
    place = building.build()
    place.tamper("s3", 33.0)
    place.asks("r1")
    rewrite("r2", "r1", score=0.123)
    found = replayed("r2")
    assert found.causes == ("feature_skew", "artifact_difference")
    assert found.message.startswith("Feature skew: ")
    assert "artifact or environment difference: " in found.message


# ---------------------------------------------------------------------- another artifact or environment


def test_replay__another_artifact_answered__is_an_artifact_difference_with_the_environment() -> None:
    place = building.build(
        environment={"python": "2.7.18", "packages": {"scikit-learn": "0.1", "no-such-package": "1"}}
    )
    score = place.asks("r1")
    other = building.a_version(place.registered_model, place.champion.service, seed=7)
    rewrite("r2", "r1", version_id=other.pk)
    found = replayed("r2")
    assert found.causes == ("artifact_difference",)
    assert found.served == score
    assert found.replayed is not None
    assert abs(found.replayed - score) > 1e-6
    assert "late-arrival v2 now answers" in found.message
    assert "none was recorded" in found.message

    rewrite("r3", "r1", score=0.5)
    changed = {name: (then, now) for name, then, now in replayed("r3").environment}
    assert changed["scikit-learn"] == ("0.1", sklearn.__version__)
    assert changed["no-such-package"] == ("1", "not installed")
    assert changed["python"][0] == "2.7.18"
    assert "python was 2.7.18 and is" in replayed("r3").message


def test_replay__difference_within_the_tolerance__is_none() -> None:
    place = building.build()
    score = place.asks("r1")
    rewrite("r2", "r1", score=score + 1e-10)
    assert replayed("r2").cause == "reproduced"


# ---------------------------------------------------------------------- a canary


def test_replay__canary_that_failed__is_the_champions_answer() -> None:
    place = building.build()
    score = place.asks("r1")
    rollout = place.candidate(seed=7)
    rollout.refresh_from_db()
    rewrite(
        "r2", "r1", arm="canary", version_id=rollout.version_id, salt=rollout.salt, status="error", error="It broke."
    )
    found = replayed("r2")
    assert (found.cause, found.version) == ("reproduced", "late-arrival v1")
    assert found.served == score


def test_replay__canary_that_answered__is_asked_itself() -> None:
    place = building.build()
    place.asks("r1")
    rollout = place.candidate(seed=7)
    inputs = pa.table({"shop_facts__size": [3.0], "amount": [0.5]})
    score = float(scorers.scorer(rollout.version).predict(inputs).scores[0])
    canary = {"arm": "canary", "answered_by": "canary", "salt": rollout.salt, "score": score}
    rewrite("r2", "r1", version_id=rollout.version_id, **canary)
    found = replayed("r2")
    assert (found.cause, found.version) == ("reproduced", "late-arrival v2")


def test_replay__candidate_in_shadow__does_not_disturb() -> None:
    place = building.build()
    place.candidate(seed=7)
    place.asks("r1")
    assert Route.objects.get().stage == "shadow"
    assert replayed().cause == "reproduced"


# ---------------------------------------------------------------------- not reproducible


def refused(request_id: str = "r1") -> str:
    found = replayed(request_id)
    assert found.causes == ("not_reproducible",), found.message
    assert found.message.startswith(("Not reproducible: ", "Its features", "Late-arrival"))
    return found.message


def test_replay__unknown_request__says_so() -> None:
    building.build()
    assert "logged no prediction 'r404'" in refused("r404")


def test_replay__fallback__says_why_nobody_answered() -> None:
    place = building.build()
    paula_ = paula()
    actions.decide(
        place.endpoint, kind="stop", registered_model=place.registered_model, note="Stop.", actor=paula_, now=NOON
    )
    place.asks("r1")
    assert "the endpoint gave its fallback 0.2, no version was to answer" in refused()


def test_replay__failed_version__names_its_error() -> None:
    place = building.build()
    place.asks("r1")
    rewrite("r2", "r1", answered_by="fallback", score=0.2, status="error", error="Out of memory.")
    assert "fallback 0.2, because late-arrival v1 failed: Out of memory" in refused("r2")


def test_replay__value_that_the_store_had_lost__is_a_skew_that_led_to_the_fallback() -> None:
    place = building.build()
    assert place.asks("r1", shop="s9") == 0.2, "a logistic regression takes no null"
    assert "because late-arrival v1 failed" in refused()

    online.store().forget(place.view.pk)
    place.asks("r2", shop="s3", at=NOON + HOUR + timedelta(minutes=1), brought_up_to_date=False)
    found = replayed("r2")
    assert found.causes == ("feature_skew", "not_reproducible")
    assert "shop_facts__size was served as nothing and was 3 as known then" in found.message
    assert "fallback 0.2" in found.message


def test_replay__damaged_or_missing_artifact__is_said() -> None:
    place = building.build()
    place.asks("r1")
    file = artifact_file(place.champion)
    file.chmod(0o644)
    file.write_bytes(b"something else")
    assert "damaged" in refused()
    file.unlink()
    assert "late-arrival v1 can not be asked again" in refused().replace("Late", "late")
    assert replayed().inputs[1].recomputed == 3.0, "the features are told all the same"


@pytest.mark.parametrize("load_class", ["quarantined", "external"])
def test_replay__what_is_not_loaded_here__is_said(load_class: str) -> None:
    place = building.build()
    place.asks("r1")
    other = building.a_version(place.registered_model, place.champion.service, load_class=load_class)
    rewrite("r2", "r1", version_id=other.pk)
    assert ("quarantined" if load_class == "quarantined" else "outside Gatehouse") in refused("r2")


def test_replay__source_data_gone__still_says_what_the_version_answers() -> None:
    place = building.build()
    score = place.asks("r1")
    Path(settings.DATA_ROOT, "sources", "shops.parquet").unlink()
    found = replayed()
    assert found.cause == "not_reproducible"
    assert "its features can not be recomputed" in found.message.lower()
    assert f"answers {score:.6g}, as served" in found.message
    assert found.replayed == score


def test_replay__log_without_the_entity__can_not_recompute() -> None:
    place = building.build()
    place.asks("r1")
    row = prediction_log.find_row(ENDPOINT, "r1")
    assert row is not None
    bare = row.drop_columns([name for name in row.column_names if "shop" in name and "size" not in name])
    bare = bare.set_column(0, "request_id", pa.array(["r2"]))
    prediction_log.append(ENDPOINT, bare)
    assert "does not name the entity" in refused("r2")


def test_replay__log_without_an_input__says_so() -> None:
    place = building.build()
    place.asks("r1")
    row = prediction_log.find_row(ENDPOINT, "r1")
    assert row is not None
    prediction_log.append(ENDPOINT, row.drop_columns(["amount"]).set_column(0, "request_id", pa.array(["r2"])))
    # the day's other file has the column: a row is read with its own file's columns only
    assert "has not all inputs" in refused("r2")


# ---------------------------------------------------------------------- who may


def test_replay__stranger__is_not_told_that_it_is_there() -> None:
    place = building.build()
    place.asks("r1")
    with pytest.raises(NotFound):
        replay(ENDPOINT, "r1", reader=charlie(), now=LATER)
    with pytest.raises(NotFound):
        replay("no-such-endpoint", "r1", reader=alice(), now=LATER)
    assert replay(ENDPOINT, "r1", reader=audrey(), now=LATER).cause == "reproduced"


def test_replay__as_dict__has_all_numbers() -> None:
    place = building.build()
    place.tamper("s3", 33.0)
    place.asks("r1")
    told = replayed().as_dict()
    assert (told["cause"], told["causes"], told["tolerance"]) == ("feature_skew", ["feature_skew"], 1e-9)
    assert [each["feature"] for each in told["features"]] == ["shop_facts__size"]
    assert len(told["inputs"]) == 2
    assert told["version"] == "late-arrival v1"


def test_replay__batch_of_many__is_reproduced_row_by_row() -> None:
    place = building.build()
    place.asks("r0")
    random, n = np.random.default_rng(3), 50
    asked = pa.table(
        {
            "request_id": [f"b{row}" for row in range(n)],
            "tailnum": ["c"] * n,
            "shop": [f"s{row % 5}" for row in range(n)],
            "amount": random.normal(size=n),
        }
    )
    gateway.serve(ENDPOINT, asked, now=NOON + HOUR)
    assert {replayed(f"b{row}").cause for row in range(0, n, 7)} == {"reproduced"}
