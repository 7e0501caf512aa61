"""``manage.py createsuperuser``, as Django has it, but for the event: the first account is governed like all others."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.management.commands import createsuperuser
from django.contrib.auth.models import AbstractUser, UserManager
from django.db import transaction

from audit.trail import Service, record

COMMAND_LINE = Service("command line")


class Accounts:
    """The user model as Django's command uses it; whom it makes is recorded in the same transaction.

    The command as a whole is no transaction: on SQLite nobody could write while somebody thinks of a password.
    """

    def __init__(self, model: type[AbstractUser], manager: UserManager[Any]) -> None:
        self._model, self._manager = model, manager
        self._default_manager = self

    def db_manager(self, using: str) -> Accounts:
        return Accounts(self._model, self._manager.db_manager(using))

    def create_superuser(self, **fields: Any) -> AbstractUser:
        with transaction.atomic(using=self._manager.db):
            user: AbstractUser = self._manager.create_superuser(**fields)
            rights = {"is_active": user.is_active, "is_staff": user.is_staff, "is_superuser": user.is_superuser}
            record("user.created", user, actor=COMMAND_LINE, data={"before": {}, "after": {"groups": [], **rights}})
        return user

    def get_by_natural_key(self, name: str | None) -> AbstractUser:
        found: AbstractUser = self._manager.get_by_natural_key(name)
        return found

    def __call__(self, **fields: Any) -> AbstractUser:
        return self._model(**fields)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class Command(createsuperuser.Command):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.UserModel: Any = Accounts(self.UserModel, self.UserModel._default_manager)
