"""Plain functions that build what tests need; the values that matter stand in the test itself.

Alice (data science) owns, Paula (product) and Pete (platform) share it, Charlie is a stranger, Audrey audits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group, User

from audit.trail import Service
from registry.models import AUDITORS, RegisteredModel

NOON = datetime(2013, 4, 1, 12, tzinfo=UTC)
ROBOT = Service("test")


def group(name: str) -> Group:
    return Group.objects.get_or_create(name=name)[0]


def person(name: str, *groups: str, **fields: Any) -> User:
    """A user in these groups; the password is the name twice."""
    user = User.objects.filter(username=name).first() or User.objects.create_user(name, password=name * 2, **fields)
    user.groups.set([group(each) for each in groups])
    return user


def alice() -> User:
    return person("alice", "delay-science", is_staff=True)


def pete() -> User:
    return person("pete", "delay-platform", is_staff=True)


def paula() -> User:
    return person("paula", "delay-product", is_staff=True)


def charlie() -> User:
    return person("charlie", "strangers", is_staff=True)


def audrey() -> User:
    return person("audrey", AUDITORS)


def registered_model(name: str = "late-arrival", **fields: Any) -> RegisteredModel:
    values = {
        "title": "Late arrival",
        "tier": "standard",
        "data_science": group("delay-science"),
        "platform": group("delay-platform"),
        "product": group("delay-product"),
        "created_at": NOON,
        **fields,
    }
    return RegisteredModel.objects.get_or_create(name=name, defaults=values)[0]
