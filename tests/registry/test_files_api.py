"""Files of versions over HTTP: sent with their version, listed, downloaded as attachments; holds and cards."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from audit import clock
from audit.errors import Unavailable
from audit.models import Event
from registry import artifacts
from registry.models import Blob, ModelVersion
from tests.builders import NOON, alice, audrey, charlie, paula, registered_model
from tests.mlops.calls import Caller, problem, refused_fields
from tests.registry import world

pytestmark = pytest.mark.django_db

VERSIONS = "models/late-arrival/versions/"
ONE = f"{VERSIONS}1/"


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


def form(*files: tuple[str, bytes], lineage: Any = None) -> dict[str, Any]:
    return {
        "artifact": SimpleUploadedFile("model.skops", world.model_bytes()),
        "files": [SimpleUploadedFile(name, content) for name, content in files],
        "lineage": json.dumps(lineage or {}),
    }


def registered(*files: tuple[str, bytes], **lineage: Any) -> Caller:
    """Alice, after she registered version 1."""
    registered_model()
    caller = Caller(alice())
    answer = caller.form(VERSIONS, form(*files, lineage=lineage))
    assert answer.status_code == 201, answer.content
    return caller


def content_of(response: Any) -> bytes:
    return b"".join(response.streaming_content)


# ---------------------------------------------------------------------- the manifest


def test_files__sent_with_a_version__are_in_its_manifest() -> None:
    caller = registered(("notes.txt", b"notes"), ("sample.csv", b"a,b\n"))
    manifest = caller.get(f"{ONE}files/").json()
    version = ModelVersion.objects.get()
    assert [(each["path"], each["role"], each["bytes"]) for each in manifest["files"]] == [
        ("model.skops", "model", len(world.model_bytes())),
        ("notes.txt", "other", 5),
        ("sample.csv", "other", 4),
    ]
    assert manifest["manifest_digest"] == version.manifest_digest != ""
    assert artifacts.verify(version) == []


def test_files__other_beside_the_same_model__are_another_version() -> None:
    caller = registered(("notes.txt", b"one"))
    with clock.at(NOON.replace(hour=13)):
        codes = [caller.form(VERSIONS, form(("notes.txt", content))).status_code for content in (b"one", b"two")]
    assert codes == [200, 201]


def test_files__of_a_stranger__are_not_there() -> None:
    registered()
    for path in ("files/", "files/model.skops"):
        assert problem(Caller(charlie()).get(ONE + path))[0] == 404


# ---------------------------------------------------------------------- downloads


def test_download__file__is_an_attachment_with_its_digest() -> None:
    caller = registered(("notes.html", b"<script>alert(1)</script>"))
    response = caller.get(f"{ONE}files/notes.html", headers={"Accept": "text/html"})
    assert content_of(response) == b"<script>alert(1)</script>"
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="notes.html"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    assert response["Content-Length"] == "25"
    digest = b64decode(response["Repr-Digest"].removeprefix("sha-256=:").removesuffix(":"))
    assert digest.hex() == ModelVersion.objects.get().files.get(path="notes.html").blob_id


def test_download__damaged_bytes__are_cut_short() -> None:
    caller = registered(("notes.txt", b"notes"))
    blob = Blob.objects.get(files__path="notes.txt")
    path = Path(storages["artifacts"].path(artifacts.stored_name(blob.pk)))
    path.unlink()
    path.write_bytes(b"nodes")
    with pytest.raises(Unavailable, match="damaged"):
        content_of(caller.get(f"{ONE}files/notes.txt"))
    assert [each.path for each in artifacts.verify(ModelVersion.objects.get())] == ["notes.txt"]


def test_download__removed_bytes__say_when_and_why() -> None:
    caller = registered()
    Blob.objects.update(removed_at=NOON, removed_because="Retention.")
    assert problem(caller.get(f"{ONE}files/model.skops"))[1]["detail"].endswith("removed on 2013-04-01: Retention.")
    assert caller.get(f"{ONE}files/").json()["files"][0]["removed_at"] == "2013-04-01T12:00:00Z"


def test_download__in_the_portal__is_the_same_attachment() -> None:
    registered()
    address = "/models/late-arrival/versions/1/files/model.skops"
    browser = Client()
    assert browser.get(address).status_code == 302
    browser.force_login(charlie())
    assert browser.get(address).status_code == 404
    browser.force_login(paula())
    response = browser.get(address)
    assert content_of(response) == world.model_bytes()
    assert response["Content-Disposition"].startswith("attachment")
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"


# ---------------------------------------------------------------------- facts and claims


def test_registrant__is_who_called_and_claims_are_kept_as_claims() -> None:
    caller = registered(claims={"user": "the.ceo", "host": "laptop"}, environment_lock="a==1\nb==2\n")
    answer = caller.get(ONE).json()
    assert (answer["registered_by"], answer["claims"]) == ("alice", {"user": "the.ceo", "host": "laptop"})
    assert answer["registered_with"].startswith("gh_")
    assert answer["environment_lock"] == "a==1\nb==2\n"
    assert "list" in answer["load_class_because"]
    registrant = next(part for part in answer["lineage"]["parts"] if part["kind"] == "registrant")
    assert (registrant["label"], registrant["facts"]["user (claimed)"]) == ("alice", "the.ceo")


def test_claims__others_with_the_same_content__are_the_same_version() -> None:
    caller = registered(claims={"user": "a"}, note="one", metrics={"auc": 0.7})
    with clock.at(NOON.replace(hour=13)):
        again = caller.form(VERSIONS, form(lineage={"claims": {"user": "b"}, "note": "two", "metrics": {"auc": 0.8}}))
    assert (again.status_code, again.json()["claims"]) == (200, {"user": "a"})
    locked = caller.form(VERSIONS, form(lineage={"environment_lock": "a==1"}))
    assert locked.status_code == 201


def test_metrics__that_contradict_themselves__are_refused_by_name() -> None:
    registered_model()
    lineage = {"metrics": {"auc": {"value": 0.7, "low": 0.8, "high": 0.9}}}
    assert refused_fields(Caller(alice()).form(VERSIONS, form(lineage=lineage))) == {"metrics.auc"}


# ---------------------------------------------------------------------- holds and cards


def test_hold__placed_listed_and_released_over_http() -> None:
    owner, auditor = registered(), Caller(audrey())
    assert owner.post(f"{ONE}hold/", {"reason": "Case 7."}).status_code == 201
    assert problem(owner.post(f"{ONE}hold/", {"reason": "Case 7."}))[0] == 409
    address = f"/api/v1/{ONE}hold/"
    assert problem(owner.client.delete(f"{address}?reason=x"))[0] == 403
    assert refused_fields(auditor.client.delete(address)) == {"reason"}
    assert auditor.client.delete(f"{address}?reason=Closed.").json()["released_by"] == "audrey"
    assert problem(auditor.client.delete(f"{address}?reason=Closed."))[0] == 404
    assert [row["placed_by"] for row in owner.get(f"{ONE}hold/").json()] == ["alice"]


def test_card__written_and_read_over_http() -> None:
    registered_model()
    caller, address = Caller(paula()), "/api/v1/models/late-arrival/card/"
    assert problem(caller.client.get(address))[0] == 404

    def put(content: Any, **headers: str) -> Any:
        body = {"content": content, "reason": "Review."}
        return caller.client.put(address, body, content_type="application/json", headers=headers)

    first = put({"intended_use": "Warn."})
    assert (first.status_code, first.json()["number"]) == (200, 1)
    assert put({"intended_use": "Warn."}).json()["number"] == 1
    assert refused_fields(put({"colour": "red"})) == {"colour"}
    tag = caller.client.get(address)["ETag"]
    assert put({"intended_use": "Warn early."}, **{"If-Match": tag}).json()["number"] == 2
    assert problem(put({"intended_use": "Warn late."}, **{"If-Match": tag}))[0] == 412
    assert Event.objects.filter(name="model_card.written").count() == 2
