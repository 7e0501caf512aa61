"""The schema is committed, complete and shown without a single inline script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from mlops import api


def test_schema__as_committed__is_what_the_code_says(tmp_path: Path) -> None:
    made = tmp_path / "openapi.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(made))

    committed = Path(settings.BASE_DIR, "openapi.yaml")
    assert made.read_text() == committed.read_text(), "manage.py spectacular --file openapi.yaml writes it anew"


def test_schema__of_every_address__documents_its_refusals_and_its_token() -> None:
    schema = yaml.safe_load(Path(settings.BASE_DIR, "openapi.yaml").read_text())
    operations = [operation for path in schema["paths"].values() for operation in path.values()]

    assert len(schema["paths"]) == len({str(pattern.pattern).rstrip("/") for pattern in api.v1})
    for operation in operations:
        assert {"400", "401"} <= set(operation["responses"]), operation["operationId"]
        assert operation["security"] == [{"token": []}]


def test_schema__is_served_to_everybody() -> None:
    response = Client().get(reverse("api-schema"))

    assert response.status_code == 200
    assert b"/api/v1/models/{name}/versions/" in response.content


def test_docs_page__has_nothing_inline__and_the_policy_stays_strict() -> None:
    response = Client().get(reverse("api-docs"))
    page, policy = response.content.decode(), response["Content-Security-Policy"]

    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page)
    assert "https://" not in page


@pytest.mark.parametrize("name", ["healthz", "readyz"])
@pytest.mark.django_db
def test_health__is_asked_without_a_token(name: str) -> None:
    response: Any = Client().get(f"/{name}")

    assert response.status_code == 200
