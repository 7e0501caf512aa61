"""A POST with an Idempotency-Key happens once, however often it is sent."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import answers
from audit.errors import Conflict
from audit.models import Event, IdempotentAnswer
from gates.models import Evidence
from registry.models import ModelVersion
from tests.builders import alice, pete, registered_model
from tests.mlops.calls import Caller, problem, refused_fields
from tests.races import race
from tests.rollout import life

ADDRESS = "models/late-arrival/evidence/"
CODE = "c0de" * 16
REPORT = {"kind": "lint", "code_digest": CODE, "report": []}
COPIES = 24

pytestmark = pytest.mark.django_db


def submitted(**headers: str) -> Any:
    registered_model()
    return Caller(alice()).post(ADDRESS, REPORT, **headers)


def test_key__again__is_answered_alike_and_happened_once() -> None:
    registered_model()
    caller = Caller(alice())
    first, again = (caller.post(ADDRESS, REPORT, idempotency_key="one") for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.json(), first["Location"], first["Content-Type"]) == (
        again.json(), again["Location"], again["Content-Type"],
    )  # fmt: skip
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert (Evidence.objects.count(), Event.objects.filter(name="evidence.submitted").count()) == (1, 1)


def test_without_a_key__each_happens() -> None:
    submitted()
    submitted()

    assert Evidence.objects.count() == 2


@pytest.mark.parametrize("other", [{"commit": "abc"}, {"kind": "unit"}])
def test_key__with_another_body__is_refused(other: dict[str, str]) -> None:
    submitted(idempotency_key="one")
    answer = Caller(alice()).post(ADDRESS, {**REPORT, **other}, idempotency_key="one")

    assert refused_fields(answer) == {"Idempotency-Key"}
    assert Evidence.objects.count() == 1


def test_key__at_another_address__is_refused() -> None:
    submitted(idempotency_key="one")
    registered_model("another")

    answer = Caller(alice()).post("models/another/evidence/", REPORT, idempotency_key="one")

    assert refused_fields(answer) == {"Idempotency-Key"}


def test_key__of_somebody_else__is_another_key() -> None:
    submitted(idempotency_key="one")
    answer = Caller(pete()).post(ADDRESS, REPORT, idempotency_key="one")

    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer


def test_key__whose_request_was_refused__may_be_tried_again() -> None:
    registered_model()
    caller = Caller(alice())
    assert problem(caller.post(ADDRESS, {**REPORT, "kind": "opinion"}, idempotency_key="one"))[0] == 422

    assert IdempotentAnswer.objects.count() == 0
    assert caller.post(ADDRESS, REPORT, idempotency_key="one").status_code == 201


def test_key__of_a_decision_that_conflicts__is_not_kept() -> None:
    rollout = life.begin().candidate()
    caller = Caller(pete())
    pause = f"rollouts/{rollout.pk}/pause/"
    first = caller.post(pause, {"reason": "Look."}, idempotency_key="one")
    again = caller.post(pause, {"reason": "Look."}, idempotency_key="one")

    assert (first.status_code, again.status_code, again["Idempotency-Replayed"]) == (200, 200, "true")
    assert problem(caller.post(pause, {"reason": "Look."}, idempotency_key="two"))[0] == 409
    assert list(IdempotentAnswer.objects.values_list("key", flat=True)) == ["one"]


@pytest.mark.parametrize(
    "key", ["", " ", "x" * 201, "one\x01", "ключ"], ids=["empty", "blank", "long", "control", "words"]
)
def test_key__malformed__is_refused(key: str) -> None:
    registered_model()
    wire = key.encode("utf-8").decode("latin-1")
    client = Caller(alice()).client

    answer = client.post(f"/api/v1/{ADDRESS}", REPORT, content_type="application/json", HTTP_IDEMPOTENCY_KEY=wire)

    assert refused_fields(answer, 400) == {"Idempotency-Key"}


def test_key__after_a_day__is_free_again() -> None:
    registered_model()
    caller = Caller(alice())
    caller.post(ADDRESS, REPORT, idempotency_key="one")
    IdempotentAnswer.objects.update(at=timezone.now() - timedelta(days=1))

    assert "Idempotency-Replayed" not in caller.post(ADDRESS, REPORT, idempotency_key="one")
    assert Evidence.objects.count() == 2


def test_forget__deletes_what_is_a_day_old() -> None:
    submitted(idempotency_key="one")
    submitted(idempotency_key="two")
    now = timezone.now()
    IdempotentAnswer.objects.filter(key="one").update(at=now - timedelta(days=1))

    assert answers.forget(now=now) == 1
    assert IdempotentAnswer.objects.get().key == "two"


def test_answer__too_large_to_keep__is_not_done_twice() -> None:
    submitted(idempotency_key="one")
    IdempotentAnswer.objects.update(status=answers.NOT_KEPT, body=b"")

    status, body = problem(submitted(idempotency_key="one"))

    assert status == 409
    assert "too large" in body["detail"]
    assert Evidence.objects.count() == 1


def test_key__on_an_address_that_counts_by_itself__is_not_looked_at() -> None:
    life.begin()
    answer = Caller(pete()).post(
        f"endpoints/{life.ENDPOINT}/predict/", {"rows": [{"request_id": "a", "x1": 1.0}]}, idempotency_key="one"
    )

    assert answer.status_code == 200, answer.content
    assert not IdempotentAnswer.objects.exists()


# ---------------------------------------------------------------------- uploads


def register(caller: Caller, content: bytes, key: str, **lineage: Any) -> Any:
    parts = {"artifact": SimpleUploadedFile("model.bin", content), "lineage": json.dumps(lineage)}
    return caller.client.post("/api/v1/models/late-arrival/versions/", parts, headers={"Idempotency-Key": key})


def test_upload__again_with_its_key__is_the_same_answer() -> None:
    registered_model()
    caller = Caller(alice())
    first, again = (register(caller, b"weights", "one", note="A.") for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again["Idempotency-Replayed"] == "true"
    assert ModelVersion.objects.count() == 1


@pytest.mark.parametrize(("content", "note"), [(b"weightz", "A."), (b"weights", "B.")])
def test_upload__of_something_else_with_the_key__is_refused(content: bytes, note: str) -> None:
    registered_model()
    caller = Caller(alice())
    register(caller, b"weights", "one", note="A.")

    assert refused_fields(register(caller, content, "one", note=note)) == {"Idempotency-Key"}


@pytest.mark.django_db(transaction=True)
def test_upload__is_read_to_its_end_before_a_transaction_opens() -> None:
    registered_model()
    caller = Caller(alice())
    seen: list[bool] = []

    class Watched(BytesIO):
        """The request's bytes; notes whether they are read inside a transaction."""

        def read(self, size: int | None = -1) -> bytes:
            seen.append(connection.in_atomic_block)
            return super().read(size)

    form = (
        b'--x\r\nContent-Disposition: form-data; name="artifact"; filename="model.bin"\r\n\r\n'
        + b"w" * 300_000
        + b"\r\n--x--\r\n"
    )
    sent: Any = {"CONTENT_LENGTH": str(len(form)), "wsgi.input": Watched(form)}
    answer = caller.client.generic(
        "POST", "/api/v1/models/late-arrival/versions/", b"", CONTENT_TYPE="multipart/form-data; boundary=x",
        headers={"Idempotency-Key": "one"}, **sent,
    )  # fmt: skip

    assert answer.status_code == 201, answer.content
    assert seen
    assert not any(seen)


def test_upload__is_looked_into_and_stored_before_the_key_is_locked() -> None:
    registered_model()
    with CaptureQueriesContext(connection) as asked:
        assert register(Caller(alice()), b"weights", "one").status_code == 201

    writes = [re.sub(r"[^a-z_ ].*", "", each["sql"].lower().replace('"', "")) for each in asked]
    order = [write for write in writes if write.startswith(("insert into registry_blob", "insert into audit_idemp"))]
    assert order == ["insert into registry_blob ", "insert into audit_idempotentanswer "]


# ---------------------------------------------------------------------- all at once


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_key__in_24_requests_at_once__is_one_creation_and_23_replays() -> None:
    registered_model()
    user = alice()
    callers = [Caller(user) for _ in range(COPIES)]

    outcomes = race(lambda n: callers[n].post(ADDRESS, REPORT, idempotency_key="one"), threads=COPIES)

    assert sorted("Idempotency-Replayed" in each for each in outcomes) == [False] + [True] * (COPIES - 1), outcomes
    assert {each.status_code for each in outcomes} == {201}
    assert len({each.content for each in outcomes}) == 1
    assert Evidence.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_key__whose_request_takes_too_long__is_a_conflict() -> None:
    user = alice()
    with transaction.atomic():
        answers.claim(user, "one", "f", now=timezone.now())

        def second(number: int) -> Any:
            with transaction.atomic():
                return answers.claim(user, "one", "f", now=timezone.now(), patience=timedelta(milliseconds=100))

        outcomes = race(second, threads=1)

    assert isinstance(outcomes[0], Conflict), outcomes


ON_A_FILE = """
import django; django.setup()
import json
from django.db import transaction
from tests.builders import alice, registered_model
from tests.mlops.calls import Caller
from tests.mlops.test_api_idempotency import ADDRESS, COPIES, REPORT
from tests.races import race
from gates.models import Evidence
with transaction.atomic():  # the tokens' events tell of all of it
    registered_model(); user = alice()
    callers = [Caller(user) for _ in range(COPIES)]
found = race(lambda n: callers[n].post(ADDRESS, REPORT, idempotency_key="one"), threads=COPIES)
print(json.dumps([[getattr(each, "status_code", repr(each)), "Idempotency-Replayed" in each] for each in found]))
print(Evidence.objects.count())
"""


@pytest.mark.slow
def test_key__in_24_requests_at_once_on_a_file_of_sqlite__is_one_creation_and_23_replays(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
        "GATEHOUSE_DATABASE_URL": f"sqlite:///{tmp_path / 'file.sqlite3'}",
        "GATEHOUSE_DATA": str(tmp_path),
        "GATEHOUSE_ALLOWED_HOSTS": "testserver",
    }

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("manage.py", "migrate", "--verbosity", "0")
    outcomes, count = python("-W", "ignore", "-c", ON_A_FILE).splitlines()

    found = json.loads(outcomes)
    assert sorted(found) == [[201, False]] + [[201, True]] * (COPIES - 1)
    assert count == "1"
