"""People in the admin: users and groups for administrators, API tokens for everybody who works here.

Who belongs to which group is who may decide what: each change of it is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from audit.desk import (
    AdminPasswordChangeForm,
    Choices,
    Decision,
    Desk,
    ModelAdmin,
    Number,
    ReasonForm,
    RowChoice,
    ShortText,
    UserChangeForm,
    UserCreationForm,
    display,
    signed_in,
)
from audit.models import ApiToken
from audit.scopes import SCOPES
from audit.trail import record
from mlops import tokens

for model in (ApiToken, Group, User):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


def _rights(user: User) -> dict[str, Any]:
    """What of an account says who it is and what it may do."""
    return {
        "username": user.username,
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

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Django's page; that somebody set another's password is recorded, the password is not."""
        with transaction.atomic():
            before = User.objects.filter(pk=unquote(id)).values_list("password", flat=True).first()
            response = super().user_change_password(request, id, form_url)
            user = User.objects.get(pk=unquote(id))
            if user.password != before:
                data = {"usable": user.has_usable_password()}
                record("user.password_set", user, actor=signed_in(request), data=data)
        return response

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the groups, and record what the account may do now; Django's view runs this in its transaction.

        The tokens of an account that is closed end with it: opened again, it has none.
        """
        super().save_related(request, form, formsets, change)
        user = User.objects.get(pk=form.instance.pk)
        data = {"before": form.before, "after": _rights(user)}
        if not user.is_active and (ended := tokens.end_all(user)):
            data["tokens_ended"] = ended
        record("user.changed" if change else "user.created", form.instance, actor=signed_in(request), data=data)

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
    """For whom, for what, and for how long."""

    user = RowChoice(queryset=User.objects.none(), help_text="Who the caller acts as.")
    name = ShortText(required=False, max_length=tokens.LONGEST_NAME, help_text="What it is for: CI of flights.")
    scopes = Choices(
        choices=[(name, f"{name} - {meaning}") for name, meaning in SCOPES.items()],
        help_text="What it may do, of what the user may. None contains another.",
    )
    days = Number(min_value=1, max_value=tokens.LONGEST.days, help_text="It expires by itself after so many days.")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        may = User.objects.filter(is_active=True)
        self.fields["user"].queryset = may if user.is_superuser else may.filter(pk=user.pk)  # type: ignore[attr-defined]  # a ModelChoiceField
        self.initial.update({"user": user, "days": tokens.USUAL.days, "scopes": ["read"]})

    def present(self, subject: Any) -> Mapping[str, Any]:
        return {}


def _issue(*, user: User, name: str, scopes: list[str], days: float, reason: str, actor: User, now: datetime) -> str:
    text = tokens.issue(user=user, scopes=scopes, name=name, days=days, reason=reason, actor=actor, now=now)
    return f"The token of {user}, shown this once: {text}"


def _may_hold(token: Any, user: User) -> bool:
    return token is None or token.user_id == user.pk or user.is_superuser


@admin.register(ApiToken)
class TokenDesk(Desk):
    list_display = ("token_key", "name", "user", "may", "created", "expiry", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("token_key", "name", "user__username")
    fields = ("token_key", "name", "user", "may", "created", "expiry", "last_used_at")
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

    @display(description="scopes")
    def may(self, token: ApiToken) -> str:
        return ", ".join(token.scopes) or "none"
