"""The registry research's list of attacks (section 4.5): what each class of CVE does elsewhere is tried here.

Names and bytes of uploads are in tests/registry/test_attacks_uploads.py, bombs and pickles in
tests/engines/test_inspection.py, addresses of external endpoints in tests/engines/test_external.py; every address
without a token, with another team's token and with a session in test_api_conventions.py. Here is the rest.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from audit import clock
from registry.models import LoadClass, ModelVersion, RegisteredModel
from registry.sight import visible_services
from tests.builders import NOON, alice, charlie, registered_model
from tests.mlops import world as building
from tests.mlops.calls import Caller
from tests.registry import world

pytestmark = pytest.mark.django_db
VERSIONS = "models/late-arrival/versions/"
ELSEWHERE = (
    "/etc/passwd", "file:///etc/passwd", "file://localhost/etc/passwd", "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd", "..%252f..%252fetc%252fpasswd", "..\\..\\etc\\passwd", "%5c%5c..%5cetc%5cpasswd",
    "runs:/../../../etc/passwd", "models:/../../etc/passwd", "mlflow-artifacts:/../../etc/passwd",
    "s3://bucket/../../etc/passwd", "http://169.254.169.254/latest/meta-data", "http://localhost:6379/",
    "dbfs:/etc/passwd#", "file:///etc/passwd?x=1", "$(id)", "`id`", "; id", "| id", "--help",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


def register(**lineage: Any) -> Any:
    artifact = SimpleUploadedFile("model.skops", world.model_bytes())
    return Caller(alice()).form(VERSIONS, {"artifact": artifact, "lineage": json.dumps(lineage)})


# ---------------------------------------------------------------------- sources, artifact locations, model addresses


@pytest.mark.parametrize("source", ELSEWHERE)
def test_source__in_the_lineage__is_no_field_of_ours(source: str) -> None:
    registered_model()
    for field in ("source", "artifact_location", "model_uri", "run_link"):
        response = register(**{field: source})
        assert response.status_code == 422
        assert f"lineage.{field}" in response.json()["errors"]
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize("source", ELSEWHERE)
def test_source__named_as_dataset_or_service__is_nothing_that_we_have(source: str) -> None:
    registered_model()
    response = register(dataset=source, service=source)
    assert response.status_code == 422
    assert set(response.json()["errors"]) == {"lineage.dataset", "lineage.service"}


@pytest.mark.parametrize("source", ELSEWHERE)
def test_source__claimed__is_kept_as_words_and_opened_by_nobody(source: str) -> None:
    registered_model()
    response = register(claims={"source": source})
    assert response.status_code == 201
    shown = Caller(alice()).get(f"{VERSIONS}1/").content.decode()
    assert "root:x:0" not in shown
    assert ModelVersion.objects.get().claims == {"source": source}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://169.254.169.254/v2", "gopher://localhost/v2/models/m"])
def test_external_endpoint__that_nobody_allowed__is_quarantined(url: str) -> None:
    registered_model()
    document = json.dumps({"protocol": "open-inference", "url": url, "model": "m"}).encode()
    response = Caller(alice()).form(VERSIONS, {"artifact": SimpleUploadedFile("model.json", document)})
    assert response.status_code == 201
    assert ModelVersion.objects.get().load_class == LoadClass.QUARANTINED


@pytest.mark.parametrize("path", ELSEWHERE)
def test_address__with_another_place_in_it__answers_nothing_of_it(path: str) -> None:
    registered_model()
    register()
    for address in (f"models/{path}/", f"{VERSIONS}1/files/{path}", f"endpoints/{path}/predictions/{path}/"):
        response = Caller(alice()).client.get(f"/api/v1/{address}")
        assert response.status_code in (400, 404), address
        assert "root:x:0" not in response.content.decode()


# ---------------------------------------------------------------------- who may, and from where


def test_service_of_another_team__named_in_a_registration__is_not_there() -> None:
    """What a version takes can be seen by its model's owners: naming it must not be the way to see it."""
    theirs = building.build("search")
    registered_model()
    digest = theirs["dataset"].digest
    response = register(service=str(theirs["service"]), dataset=digest)
    assert response.status_code == 422
    assert set(response.json()["errors"]) == {"lineage.service", "lineage.dataset"}
    assert not visible_services(alice()).exists()


def test_text__with_half_a_character__is_refused() -> None:
    registered_model()
    artifact = SimpleUploadedFile("model.skops", world.model_bytes())
    response = Caller(alice()).form(VERSIONS, {"artifact": artifact, "lineage": '{"claims": {"user": "\\ud800"}}'})
    assert response.status_code == 422
    assert "lineage.claims" in response.json()["errors"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "late-arrival"])
def test_host__that_is_not_ours__is_refused(host: str) -> None:
    """DNS rebinding: a browser is made to believe that evil.example is this machine."""
    assert Client(headers={"host": host}).get("/api/v1/models/").status_code == 400
    assert Client(headers={"host": host}).get("/login/").status_code == 400


def test_form__from_another_site__is_refused() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice())
    answer = client.post("/logout/", headers={"origin": "https://evil.example"})
    assert answer.status_code == 403


def test_model_of_a_name_that_was_another_teams__shows_nothing_of_theirs() -> None:
    """A model is never deleted, so its name never comes to mean another one; whoever asks for it again is refused."""
    registered_model()
    register()
    before = RegisteredModel.objects.get()
    assert Caller(alice()).client.delete("/api/v1/models/late-arrival/").status_code == 405
    assert RegisteredModel.objects.get() == before
    assert Caller(charlie()).get("models/late-arrival/").status_code == 404
    assert Caller(charlie()).get(f"{VERSIONS}1/").status_code == 404


# ---------------------------------------------------------------------- what lies on the disk


def test_files__that_were_stored__can_be_changed_by_nobody_else(data_root: Path) -> None:
    registered_model()
    register()
    kept = [each for each in (data_root / "artifacts").rglob("*") if each.is_file()]
    assert kept
    for each in kept:
        assert not each.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH), each
