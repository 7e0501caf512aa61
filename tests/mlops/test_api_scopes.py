"""What a token may be used for: every address declares it for every method, and refuses all other tokens."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.errors import InvalidInput, NotPermitted
from audit.models import ApiToken, Event
from audit.scopes import READ, SCOPES
from mlops import api, tokens
from tests.builders import NOON, alice, paula, person, registered_model
from tests.mlops.calls import JSON, Caller, problem, refused_fields, token

METHODS = ("get", "post", "put", "patch", "delete")


def operations() -> list[tuple[Any, str]]:
    """Every address of the API with each of its methods."""
    return [(pattern, method) for pattern in api.v1 for method in METHODS if hasattr(_view(pattern), method)]


def _view(pattern: Any) -> Any:
    return pattern.callback.cls


def scope_of(pattern: Any, method: str) -> str:
    scope: str = _view(pattern).scope_of(method.upper())
    return scope


def address(pattern: Any) -> str:
    """Of things that nobody has."""
    return "/api/v1/" + re.sub(
        r"<(\w+):\w+>", lambda part: "1" if part[1] == "int" else "nothing", pattern.pattern._route
    )


def test_every_operation__declares_a_scope() -> None:
    found = {(str(pattern.pattern), method): scope_of(pattern, method) for pattern, method in operations()}

    assert len(found) >= 30
    assert {operation: scope for operation, scope in found.items() if scope not in SCOPES} == {}
    assert {scope for (_, method), scope in found.items() if method == "get"} == {READ}


@pytest.mark.django_db
def test_every_operation__with_a_token_for_everything_else__names_the_scope_and_those_held() -> None:
    user = alice()
    for pattern, method in operations():
        needed = scope_of(pattern, method)
        others = [scope for scope in SCOPES if scope != needed]
        client = Client(headers={"Authorization": f"Bearer {token(user, *others)}"})

        status, body = problem(getattr(client, method)(address(pattern), {}, content_type=JSON))

        assert status == 403, (address(pattern), method, body)
        assert f"the scope {needed};" in body["detail"]
        assert ", ".join(sorted(others)) in body["detail"]


@pytest.mark.django_db
def test_every_operation__with_a_token_for_it_alone__is_not_refused_for_its_scope() -> None:
    user = alice()
    for pattern, method in operations():
        client = Client(headers={"Authorization": f"Bearer {token(user, scope_of(pattern, method))}"})

        response = getattr(client, method)(address(pattern), {}, content_type=JSON)

        assert "needs a token with" not in response.content.decode(), (address(pattern), method)


# ---------------------------------------------------------------------- tokens


def issue(user: User, **said: Any) -> str:
    values: dict[str, Any] = {"scopes": ["read"], "reason": "CI.", "actor": user, "now": NOON, **said}
    return tokens.issue(user=user, **values)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"scopes": []}, {"scopes"}),
        ({"scopes": ["read", "everything"]}, {"scopes"}),
        ({"days": 367}, {"days"}),
        ({"days": 0}, {"days"}),
        ({"name": "x" * 81}, {"name"}),
    ],
)
def test_token__that_can_not_be__is_refused_by_field(said: dict[str, Any], named: set[str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        issue(alice(), **said)

    assert set(refusal.value.errors) == named


@pytest.mark.django_db
def test_token__for_somebody_else__is_refused() -> None:
    with pytest.raises(NotPermitted):
        issue(alice(), actor=paula())


@pytest.mark.django_db
def test_token__without_a_word__expires_after_ninety_days() -> None:
    issue(alice())

    left = ApiToken.objects.get().expiry - timezone.now()
    assert timedelta(days=89) < left <= timedelta(days=90)


@pytest.mark.django_db
def test_token__that_expired__is_refused_and_still_there_to_look_at() -> None:
    caller = Caller(alice())
    ApiToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))

    assert problem(caller.get("models/"))[0] == 401
    assert ApiToken.objects.count() == 1


@pytest.mark.django_db
def test_use__is_noted_once_a_minute() -> None:
    caller = Caller(alice())
    caller.get("models/")
    first = ApiToken.objects.get().last_used_at
    with CaptureQueriesContext(connection) as queries:
        caller.get("models/")

    assert first is not None
    assert not any(query["sql"].startswith("UPDATE") for query in queries)
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=1))
    caller.get("models/")
    assert ApiToken.objects.get().last_used_at >= first


@pytest.mark.django_db
def test_account__closed__ends_its_tokens_with_one_event() -> None:
    user = alice()
    caller = Caller(user)
    key = ApiToken.objects.get().token_key
    admin = person("root", is_staff=True, is_superuser=True)
    browser = Client()
    browser.force_login(admin)
    page = reverse("admin:auth_user_change", args=[user.pk])
    groups = [group.pk for group in user.groups.all()]
    joined = {"date_joined_0": "2013-01-01", "date_joined_1": "00:00:00", "last_login_0": "", "last_login_1": ""}
    answer = browser.post(page, {"username": user.username, "groups": groups, "is_staff": "on", **joined})

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert problem(caller.get("models/"))[0] == 401
    user.refresh_from_db()
    user.is_active = True
    user.save()
    assert problem(caller.get("models/"))[0] == 401
    assert Event.objects.get(name="user.changed").data["tokens_ended"] == [key]


@pytest.mark.django_db
def test_closed_account__gets_no_token() -> None:
    user = alice()
    user.is_active = False
    user.save()

    with pytest.raises(InvalidInput, match="closed"):
        issue(user)


@pytest.mark.django_db
def test_registering__is_kept_with_the_caller_not_with_what_they_claim() -> None:
    registered_model()
    caller = Caller(alice(), "register")

    assert refused_fields(caller.post("models/late-arrival/evidence/", {"submitted_by": "paula"})) >= {"submitted_by"}
