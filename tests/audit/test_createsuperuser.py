"""The first account of a new portal: made on the command line, told of in the log."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from audit.models import Event

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("governed_writes")]


def test_createsuperuser__new_account__leaves_one_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "not-in-any-list-8341")

    call_command("createsuperuser", interactive=False, username="root", email="root@example.com", verbosity=0)

    event = Event.objects.get(name="user.created")
    assert event.subject_id == str(User.objects.get(username="root", is_superuser=True).pk)
    assert event.service == "command line"
