"""Who splits an endpoint's traffic, through the API, the SDK and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.auth.models import User

import gatehouse
from audit import clock
from gatehouse import cli
from rollout import actions
from tests import builders
from tests.builders import NOON, ROBOT, charlie, paula, pete
from tests.mlops.calls import token
from tests.rollout import life
from tests.sdk import portal
from tests.sdk.portal import client

pytestmark = pytest.mark.django_db

URI = "s3://models/{model}/{number}"


def test_traffic__of_our_own_gateway__follows() -> None:
    life.begin()
    found = client(paula()).endpoint_traffic(life.ENDPOINT)
    assert (found.backend, found.follows, found.weights) == ("gateway", True, {"late-arrival-v1": 1.0})
    assert repr(found) == "<Traffic of delay-warning by gateway: late-arrival-v1 1>"


def test_traffic__set_by_the_platform_group__says_what_can_not_be_judged() -> None:
    life.begin()
    document = {"backend": "nginx", "listen": "127.0.0.1:8701", "upstream": "v{number}.internal:80"}
    with clock.at(NOON):
        found = client(pete()).set_endpoint_traffic(life.ENDPOINT, document, reason="It runs there.")
    assert (found.backend, found.document) == ("nginx", document)
    assert set(found.unjudged) == {"predictions", "loss", "shadow", "features"}


def test_traffic__set_by_another__is_refused() -> None:
    life.begin()
    with pytest.raises(gatehouse.NotPermitted), clock.at(NOON):
        client(paula()).set_endpoint_traffic(life.ENDPOINT, {}, reason="Mine.")
    with pytest.raises(gatehouse.NotFound):
        client(charlie()).endpoint_traffic(life.ENDPOINT)


def test_traffic__a_document_that_can_not_be__names_the_field() -> None:
    life.begin()
    with pytest.raises(gatehouse.InvalidInput, match="listen"), clock.at(NOON):
        client(pete()).set_endpoint_traffic(life.ENDPOINT, {"backend": "nginx"}, reason="It runs there.")


def test_manifest__of_a_canary__has_both_versions() -> None:
    story = life.begin()
    actions.advance(story.candidate(), actor=ROBOT, reason="Its turn.", now=NOON)
    found = yaml.safe_load(client(paula()).kserve_manifest(life.ENDPOINT, storage_uri=URI, namespace="ml"))
    assert found["metadata"] == {
        "name": life.ENDPOINT,
        "namespace": "ml",
        "annotations": {
            "serving.kserve.io/deploymentMode": "Standard",
            "serving.kserve.io/autoscalerClass": "none",
        },
    }
    assert [each["trafficPercent"] for each in found["spec"]["canary"]] == [10]


def test_manifest__nobody_said_where_the_files_are__is_refused() -> None:
    life.begin()
    with pytest.raises(ValueError, match="Say where versions lie"):
        client(paula()).kserve_manifest(life.ENDPOINT)
    with pytest.raises(gatehouse.InvalidInput, match="storage_uri"):
        client(paula()).kserve_manifest(life.ENDPOINT, storage_uri="/somewhere")


def test_manifest__nothing_serves_yet__there_is_none() -> None:
    life.endpoint(builders.registered_model())
    with pytest.raises(ValueError, match="nothing to deploy"):
        client(paula()).kserve_manifest(life.ENDPOINT, storage_uri=URI)


# ---------------------------------------------------------------------- the command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def command(user: User, *words: Any) -> int:
        monkeypatch.setenv("GATEHOUSE_URL", portal.URL)
        monkeypatch.setenv("GATEHOUSE_TOKEN", token(user))
        with clock.at(NOON):
            return cli.main([str(word) for word in words], transport=portal.transport())

    return command


def test_command__traffic__is_shown_and_set(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    assert run(paula(), "endpoint", "traffic", life.ENDPOINT) == 0
    assert "delay-warning: gateway follows" in capsys.readouterr().out
    (document := tmp_path / "traffic.json").write_text(json.dumps({"backend": "kserve", "storage_uri": URI}))
    assert run(pete(), "endpoint", "traffic", life.ENDPOINT, "--set", document) == 2
    assert run(pete(), "endpoint", "traffic", life.ENDPOINT, "--set", document, "--reason", "Cluster.") == 0
    assert "kserve is not observed" in capsys.readouterr().out


def test_command__manifests__prints_yaml_marked_unverified(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    life.begin()
    words = ("endpoint", "manifests", life.ENDPOINT, "--kserve", "--storage-uri", URI)
    assert run(paula(), *words) == 0
    printed = capsys.readouterr().out
    assert "Unverified on a cluster" in printed.splitlines()[0]
    assert yaml.safe_load(printed)["kind"] == "InferenceService"
