"""Plain functions that build what tests need; the values that matter stand in the test itself.

Alice (data science) owns, Paula (product) and Pete (platform) share it, Charlie is a stranger, Audrey audits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group, User

from audit.trail import Service
from gates import actions as gates
from gates.models import Policy
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


def member(of: Group) -> User:
    """Somebody of a group whom a test does not care to name."""
    return User.objects.filter(username=f"some-{of.name}").first() or person(f"some-{of.name}", of.name)


def policy_in_force(of: RegisteredModel, document: dict[str, Any], *, now: datetime = NOON) -> Policy:
    """A policy proposed by a data scientist of the model and confirmed by somebody of its product group."""
    policy = gates.propose_policy(of, document=document, note="For a test.", actor=member(of.data_science), now=now)
    gates.confirm_policy(policy, reason="For a test.", actor=member(of.product), now=now)
    return policy
