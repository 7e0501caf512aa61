"""What an audit takes from the prediction log and from what readers were given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pytest

from audit import clock
from features import served_log
from features.materialize import materialize
from features.models import ConsistencyCheck, FeatureService
from features.served_log import AT, ServedLog
from jobs.drain import drain
from jobs.models import Job
from jobs.run import enqueue
from monitoring import served
from monitoring.models import Incident
from registry.models import ModelVersion
from rollout import prediction_log
from rollout.models import Endpoint, Rollout
from tests import builders
from tests.builders import NOON
from tests.features.store import HOUR, at, published, reading, service, source, write_source
from tests.monitoring.scene import a_version, passed_gates

pytestmark = pytest.mark.django_db


def an_endpoint() -> Endpoint:
    return Endpoint.objects.create(
        name="warning",
        title="Warning",
        registered_model=builders.registered_model(),
        entity_column="carrier",
        outcome_window=HOUR,
        created_at=NOON,
    )


def taking(of: FeatureService, *inputs: str) -> ModelVersion:
    """A version that takes these columns."""
    return a_version(builders.registered_model(), service=of, inputs=inputs)


def a_rollout(endpoint: Endpoint, candidate: ModelVersion, incumbent: ModelVersion) -> Rollout:
    return Rollout.objects.create(
        endpoint=endpoint,
        registered_model=candidate.registered_model,
        version=candidate,
        gate_run=passed_gates(candidate),
        incumbent=incumbent,
        plan={},
        salt="s1",
        state="pending",
        created_at=NOON,
    )


def log(version: ModelVersion | None, hours: Iterable[float], *, salt: str = "", **columns: Any) -> None:
    """Predictions at these hours; a column is one value for all or a list."""
    moments = [at(hour) for hour in hours]
    n = len(moments)
    of_log: dict[str, Any] = {
        "request_id": [f"{salt}{moment}" for moment in moments],
        "at": moments,
        "endpoint": ["warning"] * n,
        "entity": ["UA"] * n,
        "salt": [salt] * n,
        "arm": ["champion"] * n,
        "version_id": [version.pk if version else None] * n,
        "answered_by": ["champion"] * n,
        "status": ["ok"] * n,
    }
    table = {
        field.name: pa.array(of_log[field.name], field.type) if field.name in of_log else pa.nulls(n, field.type)
        for field in prediction_log.PREDICTION
    }
    added = {name: value if isinstance(value, list) else [value] * n for name, value in columns.items()}
    prediction_log.append("warning", pa.table({**table, **added}))


ASKED: Mapping[str, str] = {"request:carrier": "UA", "request:origin": "EWR"}


def samples(endpoint: Endpoint, **limits: Any) -> dict[str, list[dict[str, Any]]]:
    """By service, what is taken of the first ten hours, in order of time."""
    found = served.of_endpoint(endpoint, since=at(0), until=at(10), **limits)
    return {str(each.service): each.rows.sort_by(AT).to_pylist() for each in found}


def test_of_endpoint__champion_alone__its_store_columns_and_what_was_asked() -> None:
    published(source([reading(1)]))
    of = service("weather.temp", "weather.tag", request_features=["amount"])
    version = taking(of, "amount", "weather__temp")
    log(version, [2, 3], **ASKED, amount=[5.0, 6.0], weather__temp=[1.0, 2.0])
    log(version, [11], **ASKED, amount=7.0, weather__temp=3.0)
    entity = {"carrier": "UA", "origin": "EWR"}
    assert samples(an_endpoint()) == {
        "delay@1": [
            {AT: at(2), **entity, "amount": 5.0, "weather__temp": 1.0},
            {AT: at(3), **entity, "amount": 6.0, "weather__temp": 2.0},
        ]
    }


def test_of_endpoint__champion_changed_meanwhile__each_row_belongs_to_its_own() -> None:
    published(source([reading(1)]))
    first, second = service("weather.temp"), service("weather.seats", name="other")
    log(taking(first, "weather__temp"), [2], **ASKED, weather__temp=1.0)
    log(taking(second, "weather__seats"), [3], **ASKED, weather__seats=4)
    found = samples(an_endpoint())
    assert [row["weather__temp"] for row in found["delay@1"]] == [1.0]
    assert [row["weather__seats"] for row in found["other@1"]] == [4]


def test_of_endpoint__in_a_rollout__both_versions_of_every_row_that_both_were_given() -> None:
    origin = source([reading(1)])
    published(origin)
    old = taking(service("weather.temp"), "weather__temp")
    published(origin, ttl=HOUR)
    new = taking(service("weather.temp", name="newer"), "weather__temp")
    endpoint = an_endpoint()
    a_rollout(endpoint, new, old)
    both = {"candidate:weather__temp": [7.0, 8.0], prediction_log.CANDIDATE_GIVEN: True}
    log(old, [2, 3], salt="s1", **ASKED, weather__temp=[1.0, 2.0], **both)
    log(old, [4], salt="s1", **ASKED, weather__temp=3.0)  # what the candidate needs was not asked
    found = samples(endpoint)
    assert [row["weather__temp"] for row in found["delay@1"]] == [1.0, 2.0, 3.0]
    assert [row["weather__temp"] for row in found["newer@1"]] == [7.0, 8.0]


def test_of_endpoint__fallback_and_rows_of_an_older_release__are_left_out() -> None:
    published(source([reading(1)]))
    version = taking(service("weather.temp"), "weather__temp")
    log(None, [2], **ASKED)
    log(version, [3], weather__temp=1.0)
    endpoint = an_endpoint()
    assert samples(endpoint) == {}
    log(version, [4], **ASKED, weather__temp=1.0)
    assert [row[AT] for row in samples(endpoint)["delay@1"]] == [at(4)]


def test_of_endpoint__more_than_the_sample__takes_the_same_requests_each_time() -> None:
    published(source([reading(1)]))
    log(taking(service("weather.temp"), "weather__temp"), [k / 50 for k in range(400)], **ASKED, weather__temp=1.0)
    endpoint = an_endpoint()
    first = samples(endpoint, size=30)
    assert len(first["delay@1"]) == 30
    assert samples(endpoint, size=30) == first


def audit(hour: float) -> list[ConsistencyCheck]:
    """The scheduled job at this hour; the checks that it stored."""
    before = ConsistencyCheck.objects.count()
    with clock.at(at(hour)):
        job = enqueue("monitoring.consistency", key=f"audit@{hour}")
        drain()
    job.refresh_from_db()
    assert job.state == "done", job.error
    return list(ConsistencyCheck.objects.order_by("pk")[before:])


def test_audit__what_was_served_since_the_last_one__is_checked_once() -> None:
    an_endpoint()
    published(source([reading(1, temp=1.0)]))
    version = taking(service("weather.temp"), "weather__temp")
    log(version, [2, 3, 4], **ASKED, weather__temp=1.0)
    assert [(each.cells, each.differing, each.since) for each in audit(4)] == [(2, 0, at(4 - 24))]
    assert [(each.cells, each.since) for each in audit(6)] == [(1, at(4))]
    assert audit(8) == []


def test_audit__of_a_leak__is_an_incident_and_of_what_readers_got_too() -> None:
    an_endpoint()
    leaking = published(source([reading(1, temp=1.0), reading(2, temp=2.0, arrived=at(6))]), known_at="happened")
    of = service("weather.temp")
    materialize(leaking, now=at(3))
    readers = ServedLog(share=1.0)
    readers.note(of, [{"carrier": "UA", "origin": "EWR"}], ["weather__temp"], [[1.0]], now=at(3))
    readers.flush()
    (found,) = audit(8)
    assert (found.cells, found.differing) == (1, 1)
    assert Incident.objects.get().kind == "consistency"
    assert served_log.services() == [of.pk]


def test_audit__what_was_read_just_now__waits_for_the_next() -> None:
    published(source([reading(1, temp=1.0)]))
    of = service("weather.temp")
    readers = ServedLog(share=1.0)
    readers.note(of, [{"carrier": "UA", "origin": "EWR"}], ["weather__temp"], [[1.0]], now=at(7.99))
    readers.flush()
    assert audit(8) == []
    assert [each.cells for each in audit(9)] == [1]


def test_audit__one_source_is_gone__the_others_are_audited_and_the_job_says_so(data_root: Any) -> None:
    an_endpoint()
    published(source([reading(1, temp=1.0)]))
    published(source([reading(1, temp=1.0)], name="gusts"), name="wind")
    log(taking(service("weather.temp"), "weather__temp"), [2], **ASKED, weather__temp=1.0)
    log(taking(service("wind.temp", name="windy"), "wind__temp"), [3], **ASKED, wind__temp=1.0)
    (data_root / "sources" / "gusts.parquet").unlink()
    assert [str(each.view_version) for each in audit(4)] == ["weather@1"]
    result = Job.objects.get(kind="monitoring.consistency").result
    assert result is not None
    assert "gusts" in result["problems"][0]
    write_source("gusts", [reading(1)])


def test_audit__nothing_served__is_no_check_and_no_incident() -> None:
    an_endpoint()
    assert audit(4) == []
    assert not Incident.objects.exists()


def test_since__after_a_long_pause__looks_back_a_week_at_most() -> None:
    an_endpoint()
    published(source([reading(1, temp=1.0)]))
    version = taking(service("weather.temp"), "weather__temp")
    log(version, [2], **ASKED, weather__temp=1.0)
    audit(3)
    log(version, [24, 24 * 20], **ASKED, weather__temp=1.0)
    (found,) = audit(24 * 21)
    assert (found.cells, found.since) == (1, at(24 * 14))
