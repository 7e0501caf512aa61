"""What differs between two versions: data, features with their text, parameters, code, packages, metrics, gates."""

from __future__ import annotations

import pytest

from mlops.lineage import diff
from mlops.lineage.comparing import Change, Measured, MetricChange, changes, metrics, packages
from tests.features import store
from tests.mlops import lineage_world as world
from tests.mlops.lineage_walk import a_policy, a_version, passed


def test_changes__nested__are_told_by_dotted_names() -> None:
    found = changes({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}, "e": None})
    assert found == (
        Change("a", "1", "1"),
        Change("b.c", "2", "4"),
        Change("b.d", "3", None),
        Change("e", None, "None"),
    )
    assert [each.kind for each in found] == ["same", "changed", "removed", "added"]


def test_packages__lock_file__gives_versions_by_comparable_names() -> None:
    lock = "numpy==2.1.0 \\\n    --hash=sha256:abc\nScikit_Learn[all]==1.9.1 ; python_version > '3'\n# six==1\n-e .\n"
    assert packages(lock) == {"numpy": "2.1.0", "scikit-learn": "1.9.1"}


@pytest.mark.parametrize(
    ("other", "apart"),
    [
        ({"estimate": 0.8, "low": 0.79, "high": 0.81, "n": 9}, True),
        ({"estimate": 0.72, "low": 0.69, "high": 0.75}, False),
        ({"estimate": 0.8}, None),
        (0.8, None),
    ],
)
def test_metrics__intervals__are_said_to_lie_apart_only_where_both_are_known(other: object, apart: bool | None) -> None:
    (found,) = metrics({"auc": {"estimate": 0.7, "low": 0.68, "high": 0.72}}, {"auc": other})
    assert found.before == Measured(0.7, 0.68, 0.72)
    assert found.lie_apart is apart


def test_metrics__only_one_side__have_no_difference() -> None:
    found = metrics({"validation": {"auc": 0.7, "note": "x", "ok": True}}, {})
    assert found == (MetricChange("validation.auc", Measured(0.7), None),)
    assert found[0].difference is None


@pytest.mark.django_db
def test_diff__everything_that_was_changed__is_told() -> None:
    readings = store.source([store.reading()])
    store.published(readings)
    before_service = world.service("weather.temp", "weather.tag", name="inputs")
    store.published(readings, expression=store.SELECT.format("readings") + " WHERE wet")
    after_service = world.service("weather.temp", "weather.seats", name="inputs", request_features=["hour"])
    model = world.model()
    a_policy(model)
    before = a_version(
        model, service=before_service, dataset=world.dataset(before_service), parameters={"C": 1, "deep": {"n": 3}},
        commit="a" * 40, environment_lock="numpy==2.0\npandas==3.0", metrics={"auc": 0.7}, label="late",
    )  # fmt: skip
    passed(before)
    after = a_version(
        model, service=after_service, dataset=world.dataset(after_service, "e"), parameters={"C": 2, "deep": {"n": 3}},
        commit="b" * 40, environment_lock="numpy==2.1\npandas==3.0", metrics={"auc": 0.75}, label="late",
        load_class="onnx",
    )  # fmt: skip
    found = diff(before, after)
    said = found.as_dict()
    assert not found.is_same
    assert [each["name"] for each in said["parameters"]] == ["C"]
    assert [(each["name"], each["before"], each["after"]) for each in said["environment"]] == [("numpy", "2.0", "2.1")]
    assert {each["name"] for each in said["data"]} == {"digest", "service"}
    assert {(each.kind, each.feature) for each in found.features} == {
        ("added", "hour"), ("added", "weather__seats"), ("removed", "weather__tag"), ("changed", "weather__temp"),
    }  # fmt: skip
    (text,) = found.texts
    assert (text.before, text.after) == ("weather@1", "weather@2")
    assert any("wet" in line.text for line in text.lines if line.tone == "added")
    assert said["metrics"][0]["difference"] == pytest.approx(0.05)
    assert {each["name"] for each in said["artifact"]} >= {"load class", "digest"}
    assert [(each.check_id, each.after) for each in found.gates] == [("auc-floor", None)]


@pytest.mark.django_db
def test_diff__the_same_version__differs_in_nothing() -> None:
    version = a_version(world.model())
    assert diff(version, version).is_same
