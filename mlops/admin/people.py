"""People in the admin: users and groups for administrators, API tokens for everybody who works here.

Who belongs to which group is who may decide what: each change of it is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest

from audit.desk import (
    AdminPasswordChangeForm,
    Decision,
    Desk,
    ModelAdmin,
    Number,
    ReasonForm,
    RowChoice,
    UserChangeForm,
    UserCreationForm,
    display,
    signed_in,
)
from audit.models import ApiToken
from audit.trail import record
from mlops import tokens

for model in (ApiToken, Group, User):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


def _rights(user: User) -> dict[str, Any]:
    """What of an account says what it may do."""
    return {
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "is_active": user.is_active,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
    }


@admin.register(User)
class UserDesk(UserAdmin, ModelAdmin):  # type: ignore[type-arg]  # generic for mypy alone
    """Accounts are switched off (not active), never deleted: the trail names them."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "member_of", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_superuser", "is_active", "groups")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("What they may do", {"fields": ("groups", "is_active", "is_staff", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("groups")

    @display(description="groups")
    def member_of(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all()) or "—"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the groups, and record what the account may do now; Django's view runs this in its transaction."""
        super().save_related(request, form, formsets, change)
        after = _rights(User.objects.get(pk=form.instance.pk))
        name = "user.changed" if change else "user.created"
        record(name, form.instance, actor=signed_in(request), data={"before": form.before, "after": after})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Remember what the account could do, before the form's values reach the database."""
        form.before = _rights(User.objects.get(pk=obj.pk)) if change else {}
        super().save_model(request, obj, form, change)


@admin.register(Group)
class GroupDesk(GroupAdmin, ModelAdmin):
    """A group owns models and sources; what its members may do follows from that, not from permission rows."""

    list_display = ("name", "members")
    fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("user_set")

    @display(description="members")
    def members(self, group: Group) -> str:
        return ", ".join(sorted(user.username for user in group.user_set.all())) or "—"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        record("group.changed" if change else "group.created", obj, actor=signed_in(request), data={"name": obj.name})


class TokenForm(ReasonForm):
    """For whom, and for how long."""

    user = RowChoice(queryset=User.objects.none(), help_text="Who the caller acts as.")
    days = Number(min_value=1, max_value=tokens.LONGEST.days, help_text="It expires by itself after so many days.")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        may = User.objects.filter(is_active=True)
        self.fields["user"].queryset = may if user.is_superuser else may.filter(pk=user.pk)  # type: ignore[attr-defined]  # a ModelChoiceField
        self.initial.update({"user": user, "days": 90})

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {}


def _issue(*, user: User, days: float, reason: str, actor: User, now: datetime) -> str:
    text = tokens.issue(user=user, days=days, reason=reason, actor=actor, now=now)
    return f"The token of {user}, shown this once: {text}"


def _may_hold(token: Any, user: User) -> bool:
    return token is None or token.user_id == user.pk or user.is_superuser


@admin.register(ApiToken)
class TokenDesk(Desk):
    list_display = ("token_key", "user", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("token_key", "user__username")
    fields = ("token_key", "user", "created", "expiry")
    decisions = (
        Decision(
            name="issue",
            label="Issue a token",
            consequence="Whoever holds the token may call the API as this user until it expires. It is shown once.",
            carry_out=_issue,
            offered=_may_hold,
            form=TokenForm,
            variant="primary",
            icon="key",
            for_list=True,
        ),
        Decision(
            name="revoke",
            label="Revoke",
            consequence="The token ends at once; whoever still uses it is refused.",
            carry_out=tokens.revoke,
            offered=_may_hold,
            variant="danger",
            icon="key_off",
        ),
    )

    def visible(self, rows: QuerySet[Any], user: User) -> QuerySet[Any]:
        return rows if user.is_superuser else rows.filter(user=user)
