"""The five people of the demo and the three owner groups."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import Group, User
from django.db import transaction

from audit.trail import Service, record
from registry.models import AUDITORS

DEMO = Service("demo")
PASSWORD = "gatehouse-demo"
SCIENCE, PLATFORM, PRODUCT = "delay-science", "delay-platform", "delay-product"


@dataclass(frozen=True)
class Cast:
    """Who acts in the story."""

    dana: User
    pete: User
    paula: User
    audrey: User
    admin: User


LOGINS = (
    ("dana", "data scientist", SCIENCE, "Dana", "Reyes"),
    ("pete", "platform engineer", PLATFORM, "Pete", "Okafor"),
    ("paula", "product owner", PRODUCT, "Paula", "Lindqvist"),
    ("audrey", "auditor", AUDITORS, "Audrey", "Kaur"),
)


@transaction.atomic
def create_people() -> Cast:
    """The demo's logins; their one password is printed at the end and works nowhere else."""
    admin = User.objects.create_superuser("admin", password=PASSWORD)
    record("user.created", admin, actor=DEMO, data={"is_superuser": True})
    users = {name: _user(name, group, first, last) for name, _, group, first, last in LOGINS}
    return Cast(**users, admin=admin)


def _user(name: str, group: str, first: str, last: str) -> User:
    its_group = Group.objects.create(name=group)
    record("group.created", its_group, actor=DEMO, data={"name": group})
    user = User.objects.create_user(name, password=PASSWORD, first_name=first, last_name=last, is_staff=True)
    user.groups.add(its_group)
    record("user.created", user, actor=DEMO, data={"groups": [group], "is_staff": True})
    return user
