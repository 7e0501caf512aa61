"""The dossier of versions that were trained, judged, rolled out, watched and replaced here, by the real loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops import dossier
from mlops.dossier.zipped import VERIFIER
from monitoring.models import Incident, Retraining, RetrainingState
from tests.builders import audrey
from tests.flows import town
from tests.mlops.reported import settle

pytestmark = [pytest.mark.django_db, pytest.mark.slow]


def share(document: dict[str, Any]) -> float:
    found: float = document["completeness"]["system_share"]
    return found


def missing(document: dict[str, Any]) -> list[str]:
    sections = document["sections"]
    return [f"{s['key']}.{f['key']}: {f['value']}" for s in sections for f in s["fields"] if f["source"] == "missing"]


def value(document: dict[str, Any], section: str, key: str) -> Any:
    (found,) = [each for each in document["sections"] if each["key"] == section]
    return next(field["value"] for field in found["fields"] if field["key"] == key)


def test_dossier__of_a_version_that_lived_here__the_system_fills_four_fields_of_five(tmp_path: Path) -> None:
    place = town.build(
        changes_at=town.OPENED + 12 * town.DAY,
        then=town.reversed_sizes,
        windows=[{"name": "last-days", "days": 5}, {"name": "expanding"}],
    )
    place.train("The first version.")
    assert place.live(lambda: Retraining.objects.filter(state=RetrainingState.PROMOTED).exists(), days=60), town.told()
    settle()
    first = place.registered_model.versions.order_by("number").first()
    second = place.registered_model.champion()
    assert first is not None
    assert second is not None
    for version in (first, second):
        report = dossier.issue(version, actor=audrey(), now=place.now)
        settle()
        document = dossier.document_of(report)
        assert share(document) >= 0.8, missing(document)
        assert dossier.render_pdf(document)
    assert value(document, "deployment", "serves") == "yes"
    assert value(document, "changes", "previous") == str(first)
    of_incident = dossier.issue_incident(Incident.objects.get(kind="decay"), actor=audrey(), now=place.now)
    settle()
    document = dossier.document_of(of_incident)
    ((endpoint, count),) = value(document, "impact", "predictions")["rows"]
    assert (endpoint, count > 0) == (place.endpoint.name, True)
    file = tmp_path / "incident.json"
    file.write_bytes(dossier.sealed(of_incident, document))
    done = subprocess.run([sys.executable, "-I", str(VERIFIER), str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
