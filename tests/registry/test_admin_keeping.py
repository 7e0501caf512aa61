"""Holds, retention, quotas and cards as decisions in the admin: offered to who may, refused to who may not."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit.models import Event
from registry.models import AUDITORS, LegalHold, ModelCard, RegisteredModel
from tests.builders import alice, charlie, paula, person, pete, registered_model
from tests.registry import world

pytestmark = pytest.mark.django_db


def auditor() -> User:
    return person("audrey", AUDITORS, is_staff=True)


def decide(user: User, row: Any, decision: str, **form: Any) -> Any:
    browser = Client()
    browser.force_login(user)
    address = f"/admin/registry/{row._meta.model_name}/{row.pk}/{decision}/"
    return browser.post(address, {"reason": "Case 7.", **form})


def page(user: User, row: Any) -> str:
    browser = Client()
    browser.force_login(user)
    response = browser.get(f"/admin/registry/{row._meta.model_name}/{row.pk}/change/")
    assert response.status_code == 200
    return str(response.content.decode())


def test_hold__placed_by_an_owner__is_offered_for_release_to_an_auditor() -> None:
    version = world.version()
    assert "Place a legal hold" in page(paula(), version)
    assert decide(paula(), version, "hold").status_code == 302
    assert "Release the legal hold" not in page(paula(), version)
    shown = page(auditor(), version)
    assert "Release the legal hold" in shown
    assert "Case 7. (stands)" in shown
    decide(auditor(), version, "release")
    assert LegalHold.objects.get().released_by == auditor()


def test_hold__by_a_stranger__is_not_there() -> None:
    version = world.version()
    assert decide(charlie(), version, "hold").status_code in (302, 404)
    assert not LegalHold.objects.exists()


def test_retention_and_quota__by_the_platform_owner__are_set() -> None:
    model = registered_model()
    decide(pete(), model, "retention", days="30")
    decide(pete(), model, "quota", gigabytes="1.5")
    decide(alice(), model, "quota", gigabytes="9")
    stored = RegisteredModel.objects.get()
    assert (stored.retention_days, stored.quota_bytes) == (30, 3 * 2**29)
    assert Event.objects.filter(name__startswith="registered_model.").count() == 2


def test_quota__out_of_bounds__names_the_field() -> None:
    response = decide(pete(), registered_model(), "quota", gigabytes="0")
    assert response.status_code == 422
    assert "gigabytes" in response.context["form"].errors


def test_card__written_by_a_form__is_shown_with_what_is_not_stated() -> None:
    model = registered_model()
    response = decide(paula(), model, "card", intended_use="Warn <b>early</b>.", decision_role="advises")
    assert response.status_code == 302
    assert ModelCard.objects.get().content == {"intended_use": "Warn <b>early</b>.", "decision_role": "advises"}
    shown = page(paula(), model)
    assert "Warn &lt;b&gt;early&lt;/b&gt;." in shown
    assert "not stated" in shown
    assert decide(paula(), model, "card", review_by="soon").status_code == 422


def test_version__shows_files_facts_and_claims() -> None:
    version = world.version(claims={"user": "the.ceo"}, metrics={"auc": 0.7})
    shown = page(alice(), version)
    for text in ("model, ", "Claim: user", "the.ceo", "Fact: account", "unverified: no interval, no dataset"):
        assert text in shown
