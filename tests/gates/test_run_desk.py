"""A gate run in the admin: how far it is, and what it is measured on."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from gates import actions
from gates.models import GateRun
from tests.builders import alice
from tests.gates import rows

pytestmark = pytest.mark.django_db


def page(run: GateRun) -> str:
    client = Client()
    client.force_login(alice())
    return client.get(reverse("admin:gates_gaterun_change", args=[run.pk])).content.decode()


def test_desk__run_under_way__shows_progress_and_inputs() -> None:
    rows.policy(rows.AUC, {**rows.AUC, "id": "second"})
    run = rows.running()
    preparation = rows.prepared(run)
    actions.record_result(run, rows.judged("auc-floor"), measured={}, wall_seconds=1.5)
    shown = page(run)

    assert "1 of 2" in shown
    assert "1.5 s" in shown
    assert preparation.inputs_hash in shown
    assert "There are no rows." in shown
    assert f"reproduce_gate_run {run.pk}" in shown


def test_desk__run_that_waits__shows_for_what() -> None:
    rows.policy(rows.AUC, rows.CI)

    assert "lint, unit" in page(rows.running())
