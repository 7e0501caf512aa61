"""What an orchestrator is told."""

import json

import pytest
from django.test import RequestFactory

from jobs.models import Heartbeat, JobState
from jobs.views import healthz, readyz
from tests.jobs.works import ago, job


def told() -> dict[str, object]:
    response = readyz(RequestFactory().get("/readyz"))
    assert response.status_code == 200
    answer: dict[str, object] = json.loads(response.content)
    return answer


def test_healthz__needs_no_database() -> None:
    response = healthz(RequestFactory().get("/healthz"))

    assert (response.status_code, json.loads(response.content)) == (200, {"status": "ok"})
    assert "no-store" in response["Cache-Control"]


def test_healthz__posted_to__is_not_allowed() -> None:
    assert healthz(RequestFactory().post("/healthz")).status_code == 405


@pytest.mark.django_db
def test_readyz__with_a_worker_that_beats__is_ok_and_tells_the_age() -> None:
    Heartbeat.objects.create(name="host-1", beat_at=ago(3))

    answer = told()

    assert (answer["status"], answer["database"]) == ("ok", "ok")
    assert answer["worker"] == {"alive": True, "seconds_since_sign_of_life": pytest.approx(3, abs=1)}


@pytest.mark.django_db
def test_readyz__with_workers_too_busy_to_beat__is_ok() -> None:
    Heartbeat.objects.create(name="host-1", beat_at=ago(3000))
    job(state=JobState.RUNNING, lease_until=ago(-25))

    assert told()["status"] == "ok"


@pytest.mark.django_db
@pytest.mark.parametrize("beats", [0, 1])
def test_readyz__with_a_silent_worker_or_none__is_degraded_but_serves(beats: int) -> None:
    for _ in range(beats):
        Heartbeat.objects.create(name="host-1", beat_at=ago(300))

    answer = told()

    assert answer["status"] == "degraded"
    assert answer["worker"]["alive"] is False  # type: ignore[index]  # JSON


def test_readyz__without_a_database__is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def away() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr("jobs.heartbeat.last_sign_of_life", away)
    response = readyz(RequestFactory().get("/readyz"))

    assert response.status_code == 503
    assert b"refused" not in response.content
