"""In which form a version is served: real artifacts, converted in the real child, compared on the real dataset."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from django.db import connection
from sklearn.ensemble import IsolationForest, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audit.errors import Unavailable
from audit.models import Event
from engines import scoring
from jobs.drain import drain
from registry import artifacts, conversion
from registry.conversion import served_form, settle, spread
from registry.models import Blob, Conversion, ConversionOutcome, LoadClass, ModelVersion
from tests.builders import NOON
from tests.races import race
from tests.registry import world
from tests.registry.forms import COLUMNS, boosted, frame, labels, version

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def _no_scorers_left() -> Any:
    yield
    scoring.shut_down()


def converted_events(of: ModelVersion) -> list[Event]:
    return list(Event.objects.about(of).filter(name="model_version.converted"))


def test_settle__model_that_answers_alike__is_served_as_onnx_with_its_report() -> None:
    made_of = version()
    made = settle(made_of, now=NOON)
    assert made is not None
    assert (made.outcome, made.rows, made.tolerance) == (ConversionOutcome.USED, 300, 1e-5)
    assert made.max_difference is not None
    assert made.max_difference <= 1e-5
    assert "Served as ONNX" in made.reason
    assert made.detail["variations"] == 16
    assert made.detail["probes"] > 100
    assert "skl2onnx" in made.detail["libraries"]
    form = served_form(made_of)
    assert form.load_class == LoadClass.ONNX
    assert form.digest == made.blob_id != made_of.artifact_digest
    assert form.path.stat().st_size == Blob.objects.get(pk=form.digest).bytes


def test_settle__twice__is_one_conversion_with_one_event() -> None:
    made_of = version()
    first = settle(made_of, now=NOON)
    assert settle(ModelVersion.objects.get(pk=made_of.pk), now=NOON) == first
    event, *more = converted_events(made_of)
    assert more == []
    assert event.data["outcome"] == "used"
    assert event.data["original"] == made_of.artifact_digest
    assert event.service == "registry"


def test_open_scorer__of_the_onnx_form__answers_as_the_original() -> None:
    model = boosted()
    made_of = version(model)
    settle(made_of, now=NOON)
    with conversion.open_scorer(made_of, columns=COLUMNS) as scorer:
        scored = scorer.predict(pa.Table.from_pandas(frame(), preserve_index=False))
    np.testing.assert_allclose(scored.scores, model.predict_proba(frame())[:, 1], atol=1e-5)


def test_settle__scores_differ__stays_as_registered_and_says_by_how_much() -> None:
    rows = frame() * 1e-9 + 1.0
    rows["amount"] = rows["amount"].fillna(1.0)
    forest = IsolationForest(n_estimators=20, random_state=0)  # of which the converter knows single precision only
    model = make_pipeline(StandardScaler(), forest).fit(rows)
    made_of = version(model, rows)
    made = settle(made_of, now=NOON)
    assert made is not None
    assert made.outcome == ConversionOutcome.DIFFERS
    assert made.blob is None
    assert made.max_difference is not None
    assert made.max_difference > 1e-5
    assert "beyond 1e-05" in made.reason
    assert made.detail["worst"][0]["row"] < 300
    assert served_form(made_of).digest == made_of.artifact_digest


def test_settle__tolerance_is_a_setting(settings: Any) -> None:
    settings.GATEHOUSE_ONNX_TOLERANCE = 1e-12
    made = settle(version(), now=NOON)
    assert made is not None
    assert (made.outcome, made.tolerance) == (ConversionOutcome.DIFFERS, 1e-12)


def test_settle__no_dataset__is_not_used_and_says_so() -> None:
    made = settle(version(dataset=None), now=NOON)
    assert made is not None
    assert made.outcome == ConversionOutcome.UNSUPPORTED
    assert "no real rows" in made.reason


def test_settle__unknown_to_the_converter__is_not_used() -> None:
    rows = frame().fillna(0.0)
    voting = VotingClassifier([("a", LogisticRegression()), ("b", LogisticRegression(C=2))], voting="soft")
    made_of = version(make_pipeline(StandardScaler(), voting).fit(rows, labels(rows)), rows)
    made = settle(made_of, now=NOON)
    assert made is not None
    assert made.outcome == ConversionOutcome.UNSUPPORTED
    assert "not implemented" in made.reason
    assert served_form(made_of).load_class == LoadClass.SKOPS
    assert len(converted_events(made_of)) == 1


def test_settle__dataset_that_can_not_be_read__is_a_failed_conversion_not_an_error(data_root: Any) -> None:
    made_of = version()
    assert made_of.dataset is not None
    (data_root / made_of.dataset.uri).unlink()
    made = settle(made_of, now=NOON)
    assert made is not None
    assert made.outcome == ConversionOutcome.FAILED
    assert "can not be read" in made.reason


def test_settle__switched_off__makes_nothing(settings: Any) -> None:
    settings.GATEHOUSE_ONNX = "off"
    made_of = version()
    assert settle(made_of, now=NOON) is None
    assert served_form(made_of).load_class == LoadClass.SKOPS
    assert not Conversion.objects.exists()


def test_settle__quarantined__makes_nothing() -> None:
    quarantined = world.version(content=b"\x80\x05.")
    assert settle(quarantined, now=NOON) is None
    assert served_form(quarantined).load_class == LoadClass.QUARANTINED


def test_served_form__onnx_bytes_that_were_changed__are_not_loaded() -> None:
    made_of = version()
    settle(made_of, now=NOON)
    path = served_form(made_of).path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(Unavailable, match="ONNX form of late-arrival v1 is damaged"):
        conversion.open_scorer(made_of, columns=COLUMNS)


def test_registered__through_the_queue__is_converted_by_itself() -> None:
    made_of = version()
    drain()
    assert Conversion.objects.get(version=made_of).outcome == ConversionOutcome.USED
    assert artifacts.users_of(Blob.objects.get(conversions__version=made_of)) == [made_of]


def test_settle__with_the_guards_of_production__owes_no_event(governed_writes: None) -> None:
    made = settle(version(), now=NOON)
    assert made is not None
    connection.check_constraints()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_settle__by_several_at_once__is_one_conversion_with_one_event() -> None:
    made_of = version()
    made = race(lambda _: settle(ModelVersion.objects.get(pk=made_of.pk), now=NOON), threads=4)
    assert {each.pk for each in made} == {Conversion.objects.get().pk}
    assert len(converted_events(made_of)) == 1


def test_spread__rows_from_all_over__with_a_null_of_each_column() -> None:
    table = pa.table({"a": [1] * 100, "b": [None if place == 51 else 1 for place in range(100)]})
    assert spread(table, 10).tolist() == [0, 11, 22, 33, 44, 51, 55, 66, 77, 88, 99]
    assert spread(table, 500).tolist() == list(range(100))
